// SPDX-License-Identifier: Apache-2.0

package app

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// podServer is an API server with nodes that have a pod of nftproxy each, but for one; commands in them run in this process, with manifests.
type podServer struct {
	*httptest.Server
	t         *testing.T
	manifests string

	// fakes run in place of commands, by their first word after the program, or in pods of others by the program; an exit code below 0
	// says that the program is not there.
	fakes map[string]func(in io.Reader, out, errs io.Writer) (code int)

	mu       sync.Mutex
	commands []string
}

func newPodServer(t *testing.T) *podServer {
	dir, err := filepath.Abs("../compare/testdata/manifests")
	must(t, err)
	s := &podServer{t: t, manifests: dir}
	s.Server = httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(s.Close)
	return s
}

func (s *podServer) serve(w http.ResponseWriter, r *http.Request) {
	if strings.HasSuffix(r.URL.Path, "/exec") {
		s.exec(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	pod := func(name, node, ready, created string) string {
		return fmt.Sprintf(`{"metadata": {"name": %q, "namespace": "kube-system", "creationTimestamp": %q}, "spec": {"nodeName": %q, "containers": [{"name": "nftproxy"}]},
"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": %q}]}}`, name, created, node, ready)
	}
	if r.URL.Query().Get("sendInitialEvents") != "" { // it is an older API server
		w.WriteHeader(http.StatusUnprocessableEntity)
		fmt.Fprint(w, `{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Invalid", "code": 422}`)
		return
	}
	if r.URL.Query().Get("watch") != "" {
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		return
	}
	switch filepath.Base(r.URL.Path) {
	case "services":
		fmt.Fprint(w, `{"kind": "ServiceList", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": [{"metadata": {"name": "web", "namespace": "demo"},
"spec": {"type": "ClusterIP", "clusterIP": "10.96.0.99", "clusterIPs": ["10.96.0.99"], "ipFamilies": ["IPv4"], "ports": [{"name": "guessed", "port": 80, "protocol": "TCP"}]}}]}`)
	case "endpointslices":
		fmt.Fprint(w, `{"kind": "EndpointSliceList", "apiVersion": "discovery.k8s.io/v1", "metadata": {"resourceVersion": "1"}, "items": []}`)
	case "servicecidrs":
		fmt.Fprint(w, `{"kind": "ServiceCIDRList", "apiVersion": "networking.k8s.io/v1", "metadata": {"resourceVersion": "1"}, "items": []}`)
	case "client":
		fmt.Fprint(w, `{"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "client", "namespace": "demo", "annotations": {"kubectl.kubernetes.io/default-container": "main"}},
"spec": {"nodeName": "there", "containers": [{"name": "side"}, {"name": "main"}]}, "status": {"phase": "Running", "podIPs": [{"ip": "10.244.1.10"}, {"ip": "fd00::a"}]}}`)
	case "pods":
		if r.URL.Query().Get("labelSelector") != "app.kubernetes.io/name=nftproxy" {
			http.Error(w, "no selector", http.StatusBadRequest)
			return
		}
		var list []string
		for _, node := range []string{"here", "there"} {
			if only := r.URL.Query().Get("fieldSelector"); only == "" || only == "spec.nodeName="+node {
				list = append(list, pod(node+"-old", node, "False", "2026-01-02T00:00:00Z"), pod(node+"-pod", node, "True", "2026-01-01T00:00:00Z"))
			}
		}
		fmt.Fprintf(w, `{"kind": "PodList", "apiVersion": "v1", "items": [%s]}`, strings.Join(list, ","))
	case "nodes":
		fmt.Fprint(w, `{"kind": "NodeList", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": [{"metadata": {"name": "here"}}, {"metadata": {"name": "there"}}, {"metadata": {"name": "bare"}}]}`)
	default:
		http.NotFound(w, r)
	}
}

// exec speaks v5.channel.k8s.io: a byte for the channel is before each message: 1 the output, 2 errors, 3 the outcome.
func (s *podServer) exec(w http.ResponseWriter, r *http.Request) {
	up := websocket.Upgrader{Subprotocols: []string{"v5.channel.k8s.io"}}
	c, err := up.Upgrade(w, r, nil)
	if err != nil {
		return
	}
	defer c.Close()
	command := r.URL.Query()["command"]
	pod := strings.Split(r.URL.Path, "/")[6]
	s.mu.Lock()
	ran := pod + ": " + strings.Join(command, " ")
	if r.URL.Query().Get("tty") == "true" {
		ran += " (on a terminal)"
	}
	s.commands = append(s.commands, ran)
	s.mu.Unlock()
	in, end := io.Pipe()
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		defer end.Close()
		for {
			_, m, err := c.ReadMessage()
			const input, closed = 0, 255
			switch {
			case err != nil:
				return
			case len(m) == 2 && m[0] == closed && m[1] == input:
				_ = end.Close()
			case len(m) > 1 && m[0] == input:
				_, _ = end.Write(m[1:]) // or nobody reads it any more
			}
		}
	}()
	var one sync.Mutex
	channel := func(n byte) io.Writer { return channelWriter{c, &one, n} }
	code := s.do(pod, command, in, channel(1), channel(2))
	_ = in.Close()
	status := `{"status": "Success"}`
	if code > 0 {
		status = fmt.Sprintf(`{"status": "Failure", "reason": "NonZeroExitCode", "message": "it failed", "details": {"causes": [{"reason": "ExitCode", "message": "%d"}]}}`, code)
	} else if code < 0 {
		status = `{"status": "Failure", "reason": "InternalError", "message": "exec: executable file not found in $PATH"}`
	}
	_, _ = io.WriteString(channel(3), status)
	one.Lock()
	_ = c.WriteMessage(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""))
	one.Unlock()
	select {
	case <-gone:
	case <-time.After(wholeTest):
		s.t.Errorf("%s is not left", command)
	}
}

// do carries out a command.
func (s *podServer) do(pod string, command []string, in io.Reader, out, errs io.Writer) int {
	name := command[0]
	node, ours := strings.CutSuffix(pod, "-pod")
	if ours {
		name = command[1]
	}
	s.mu.Lock()
	fake := s.fakes[name]
	s.mu.Unlock()
	switch {
	case fake != nil:
		return fake(in, out, errs)
	case !ours:
		return -1
	}
	ctx, cancel := context.WithTimeout(context.Background(), wholeTest)
	defer cancel()
	more := []string{"--socket=", "--manifests", s.manifests, "--hostname-override", node, "--cluster-cidr", "10.244.0.0/16,fd00:244::/32"}
	return Run(ctx, "v1.2.3", slices.Concat(command[1:2], more, command[2:]), out, errs)
}

// channelWriter writes messages of a channel.
type channelWriter struct {
	c       *websocket.Conn
	one     *sync.Mutex
	channel byte
}

func (w channelWriter) Write(b []byte) (int, error) {
	w.one.Lock()
	defer w.one.Unlock()
	if len(b) == 0 {
		return 0, nil
	}
	return len(b), w.c.WriteMessage(websocket.BinaryMessage, append([]byte{w.channel}, b...))
}

// kubectl runs a command line of the plugin.
func (s *podServer) kubectl(args ...string) (code int, stdout, stderr string) {
	s.t.Helper()
	root := rootCommand("v1.2.3", nil)
	asPlugin(root)
	var out, errs bytes.Buffer
	ctx, cancel := context.WithTimeout(s.t.Context(), wholeTest)
	defer cancel()
	code = execute(ctx, root, append(args, "--kubeconfig", s.kubeconfig(), "--context", "it"), &out, &errs)
	return code, out.String(), errs.String()
}

// kubeconfig writes one that has two contexts: only the second, which is not current, is the server's.
func (s *podServer) kubeconfig() string {
	s.t.Helper()
	kubeconfig := filepath.Join(s.t.TempDir(), "kubeconfig")
	must(s.t, os.WriteFile(kubeconfig, fmt.Appendf(nil, `{"apiVersion": "v1", "kind": "Config", "current-context": "other",
"clusters": [{"name": "other", "cluster": {"server": "http://127.0.0.1:1"}}, {"name": "it", "cluster": {"server": %q}}], "users": [{"name": "it", "user": {}}],
"contexts": [{"name": "other", "context": {"cluster": "other", "user": "it"}}, {"name": "it", "context": {"cluster": "it", "user": "it", "namespace": "demo"}}]}`, s.URL), 0o600))
	return kubeconfig
}

// TestPlugin: commands run in the pods of nodes, with kubectl's flags; what differs between nodes is said, and so is what is a guess.
func TestPlugin(t *testing.T) {
	s := newPodServer(t)
	for _, tt := range []struct {
		args     string
		code     int
		out, err string
	}{
		{"explain svc/web --node here", 0, "Service demo/web, port http, 80/tcp, IPv4", ""},
		{"explain web:dns -n demo --node here", 0, "Service demo/web, port dns, 53/udp, IPv4", ""},
		{"explain web -n shop --node there", 2, "", "nftproxy: there is no Service shop/web with a ClusterIP: there is demo/web\n"},
		{"explain 10.96.0.10:80/tcp --node here --from pod,node", 0, "from a pod", ""},
		{"explain svc/web --all-nodes", 0, "The same on all 2 nodes; these are here's words.\n", "nftproxy: no pod of nftproxy's DaemonSet runs on bare: not asked\n"},
		{"explain svc/inner-local --all-nodes", 0, "there differs: ", "not asked"},
		{"explain svc/inner-local --all-nodes -o json", 0, `"node": "there"`, "not asked"},
		{"explain demo/nothing --all-nodes", 2, "here, there: there is no Service demo/nothing with a ClusterIP\n", "not asked"},
		{"explain svc/web --node bare", 0, "Service demo/web, port guessed, 80/tcp, IPv4", "nftproxy: this is a guess, made here from the cluster's objects, with the options that are given here: node bare: no pod of nftproxy's DaemonSet runs there"},
		{"explain svc/web -n demo", 0, "port guessed", "this is a guess, made here from the cluster's objects, with the options that are given here: no --node NODE or --all-nodes is given"},
		{"dump --service demo/single --node here", 0, "10.244.1.7 . 8080", ""},
		{"dump --service demo/single --all-nodes", 0, "here:\n", "not asked"},
		{"diff --node bare", 2, "", "node bare: no pod of nftproxy's DaemonSet runs there (app.kubernetes.io/name=nftproxy)"},
		{"diff --node nowhere", 2, "", "node nowhere: no pod of nftproxy's DaemonSet runs there (app.kubernetes.io/name=nftproxy)"},
		{"get svc --node nowhere", 2, "", "node nowhere: no pod of nftproxy's DaemonSet runs there"},
		{"diff", 2, "", "whose answer? Give --node NODE or --all-nodes: see 'nftproxy diff --help'"},
		{"diff --node a --all-nodes", 2, "", "--node and --all-nodes do not go together"},
		{"diff --node here --manifests .", 2, "", "--manifests does not go with --node and --all-nodes"},
		{"check --node here --fix", 2, "", "--fix does not go with"},
		{"top --all-nodes", 2, "", "top shows one node after the other: give --node NODE, or --once"},
		{"ui", 2, "", "whose answer? Give --node NODE or --all-nodes"},
		{"ui --node bare", 2, "", "node bare: no pod of nftproxy's DaemonSet runs there"},
		{"ui --node here --address 0.0.0.0:0", 2, "", "is not an address of loopback"},
		{"explain svc/web --probe --from-pod client --all-nodes", 2, "", "a pod is on one node"},
		{"explain svc/web --probe --from-pod client --node here", 2, "", "pod demo/client runs on node there, not on here"},
		{"explain svc/web --from-pod client", 2, "", "--from-pod: it goes with --probe"},
		{"explain svc/web --from-pod client --netns /x", 2, "", "--from-pod and --netns do not go together: give one"},
		{"explain svc/web --probe --from-pod client --netns /x --node there", 2, "", "--from-pod and --netns do not go together: give one"},
		{"explain svc/web --probe --from-pod=", 2, "", "\"--from-pod\" flag: it is no pod: give its NAMESPACE/NAME, its NAME with --namespace, or its address"},
		{"explain svc/web --probe --from-pod nobody", 2, "", "--from-pod: get pod demo/nobody: "},
		{"get svc --node here", 2, "", "nftproxy: unknown flag: --manifests"}, // the pods of this test have it in all commands
	} {
		code, out, errs := s.kubectl(strings.Fields(tt.args)...)
		if code != tt.code || !strings.Contains(out, tt.out) || !strings.Contains(errs, tt.err) || tt.err == "" && errs != "" {
			t.Errorf("%s: exit code %d, want %d, %q, %q; got\n%s%s", tt.args, code, tt.code, tt.out, tt.err, out, errs)
		}
		if strings.Contains(tt.args, "json") {
			var doc struct{ Nodes []map[string]any }
			if err := json.Unmarshal([]byte(out), &doc); err != nil || len(doc.Nodes) != 2 {
				t.Errorf("%s: %v, %d nodes:\n%s", tt.args, err, len(doc.Nodes), out)
			}
		}
	}
	for _, want := range []string{"here-pod: /nftproxy explain --namespace=demo -- svc/web", "here-pod: /nftproxy explain --from=pod,node --namespace=demo -- 10.96.0.10:80/tcp", "there-pod: /nftproxy explain --output=json --namespace=demo -- svc/web",
		"here-pod: /nftproxy get --namespace=demo -- svc"} {
		if !slices.Contains(s.commands, want) {
			t.Errorf("%q was not run: %q", want, s.commands)
		}
	}
}

// TestPluginName: the program is the plugin by its name.
func TestPluginName(t *testing.T) {
	for name, want := range map[string]bool{"/usr/bin/nftproxy": false, "kubectl-nftproxy": true, "/home/me/.krew/bin/kubectl-nftproxy": true, "kubectl-nftproxy.exe": true, "kubectl_complete-nftproxy": true} {
		if got := isPlugin(name); got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
