// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/proxy"
)

// TestExamples runs the examples in the help of the commands that look, on a node whose
// nftproxy has the services of testdata/services, and an API server that has them, too.
func TestExamples(t *testing.T) {
	ns, err := netns.New("node")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ns.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), wholeTest)
	defer cancel()
	manifests, err := filepath.Abs("testdata/services")
	if err != nil {
		t.Fatal(err)
	}
	kubeconfig := serveAPI(t, ns, manifests, "")
	config := filepath.Join(t.TempDir(), "config.conf")
	must(t, os.WriteFile(config, []byte("apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nclusterCIDR: 10.244.0.0/16\n"+
		"clientConnection: {kubeconfig: "+kubeconfig+"}\n"), 0o600))
	self, err := os.Executable()
	must(t, err)
	program := filepath.Join(t.TempDir(), "nftproxy") // the process's name, by which others know it
	must(t, os.Symlink(self, program))
	command := func(args ...string) proxy.Config {
		return proxy.Config{Program: program, Args: args, Env: []string{runEnv + "=1"}, NS: ns}
	}
	asPlugin := command("dump", "--hostname-override", "here")
	asPlugin.Env = append(asPlugin.Env, "KUBECONFIG="+kubeconfig, "KUBERNETES_SERVICE_HOST=")
	fromCluster, err := proxy.Run(ctx, asPlugin)
	fromFiles, err2 := proxy.Run(ctx, command("dump", "--manifests", manifests, "--hostname-override", "here"))
	if err != nil || err2 != nil || fromCluster != fromFiles {
		t.Errorf("from a cluster the rules are others (%v, %v):\n%s\nthan from files:\n%s", err, err2, fromCluster, fromFiles)
	}
	socket := filepath.Join(t.TempDir(), "TABLE.sock")
	p, err := proxy.Start(command("run", "-v=1", "--socket", socket, "--manifests", manifests, "--hostname-override", "here", "--cluster-cidr", "10.244.0.0/16"))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Kill()
	must(t, errors.Join(p.WaitSynced(ctx), p.WaitLog(ctx, "Commands can ask")))
	here := strings.NewReplacer("--for 10s", "--for 50ms", "--from-pod 10.244.1.7", "--from-pod 127.0.0.1", "--interval 5s", "--interval 50ms", "/etc/nftproxy/services", manifests, "/etc/kubernetes/proxy.conf", kubeconfig, "/var/lib/kube-proxy/config.conf", config)
	for _, c := range rootCommand("v1.2.3", nil).Commands() {
		if !slices.Contains([]string{"get", "describe", "history", "dump", "diff", "explain", "trace", "top", "check"}, c.Name()) {
			continue
		}
		if c.Example == "" {
			t.Errorf("the help of %s has no example", c.Name())
		}
		for line := range strings.Lines(c.Example) {
			words := strings.Fields(here.Replace(line))
			if words[0] != "nftproxy" {
				t.Errorf("example %q does not run nftproxy", line)
			}
			args := slices.Concat(words[1:], []string{"--socket", socket})
			source := strings.Contains(line, "--manifests") || strings.Contains(line, "--kubeconfig")
			if source || strings.Contains(line, "--config") { // as nftproxy run was started
				args = append(args, "--hostname-override", "here")
			}
			if c.Name() == "diff" && source && !strings.Contains(line, "--cluster-cidr") {
				args = append(args, "--cluster-cidr", "10.244.0.0/16")
			}
			if out, err := proxy.Run(ctx, command(args...)); err != nil || out == "" && c.Name() != "trace" {
				t.Errorf("%s: %v\n%s", strings.TrimSpace(line), err, out)
			}
		}
	}
}

// TestExamplesParse: each example of each help has flags and arguments that its command takes, of those that no test runs, too.
func TestExamplesParse(t *testing.T) {
	parse := func(line string) error {
		words := strings.Fields(line)
		if len(words) < 2 || words[0] != "nftproxy" {
			return errors.New("it does not run nftproxy")
		}
		cmd, rest, err := rootCommand("v1.2.3", nil).Find(words[1:])
		if err == nil && cmd.RunE == nil {
			err = errors.New("it has no command")
		}
		if err == nil {
			err = cmd.ParseFlags(rest)
		}
		if err == nil {
			err = cmd.ValidateArgs(cmd.Flags().Args())
		}
		return err
	}
	for _, wrong := range []string{"nftproxy", "nftproxy nothing", "nftproxy run --no-such-flag", "nftproxy run now", "nftproxy compare --cluster-cidr", "nftproxy cleanup --kube-proxy=x", "nftproxy ready now"} {
		if parse(wrong) == nil {
			t.Errorf("%s is taken", wrong)
		}
	}
	for _, c := range rootCommand("v1.2.3", nil).Commands() {
		if c.Example == "" && !c.Hidden && c.Name() != "version" {
			t.Errorf("the help of %s has no example", c.Name())
		}
		for line := range strings.Lines(c.Example) {
			if err := parse(line); err != nil {
				t.Errorf("%s: %v", strings.TrimSpace(line), err)
			}
			if words := strings.Fields(line); len(words) > 1 && words[1] != c.Name() {
				t.Errorf("the help of %s has an example of another command: %s", c.Name(), strings.TrimSpace(line))
			}
		}
	}
}

// TestDescribeEvents: Events come from the API server, if there is one.
func TestDescribeEvents(t *testing.T) {
	n := newNode(t)
	kubeconfig := serveAPI(t, n.NS, "testdata/services", "")
	socket := filepath.Join(t.TempDir(), "x.sock")
	p := n.start("--socket", socket, "-v=1")
	defer p.Kill()
	must(t, errors.Join(p.WaitSynced(n.ctx), p.WaitLog(n.ctx, "Commands can ask")))
	out, err := n.run("describe", "service", "web", "--socket", socket, "--kubeconfig", kubeconfig)
	if err != nil || !strings.Contains(out, "Warning  FrontendConflict: another has it\n") {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestCheckRights names a right that is missing, and how it is given.
func TestCheckRights(t *testing.T) {
	ns, err := netns.New("node")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ns.Close() }()
	kubeconfig := serveAPI(t, ns, "testdata/services", "servicecidrs")
	out, err := proxy.Run(t.Context(), proxy.Config{Args: []string{"check", "--kubeconfig", kubeconfig}, Env: []string{runEnv + "=1"}, NS: ns})
	if err == nil {
		t.Error("the exit code is 0")
	}
	for _, want := range []string{"API server", "v1.37.2", "right to watch endpointslices",
		`failed   right to list servicecidrs       missing: allow it with a ClusterRole (apiGroups: ["networking.k8s.io"], resources: ["servicecidrs"], verbs: ["list"])`} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if strings.Count(out, "failed ") != 2 {
		t.Errorf("more fails than two rights:\n%s", out)
	}
}

// serveAPI serves the objects of a directory of manifests as an API server would, in a
// namespace, and returns a kubeconfig for it. Nothing there ever changes. Clients have
// all rights but those for the denied resource.
func serveAPI(t *testing.T, ns *netns.NS, dir, denied string) (kubeconfig string) {
	t.Helper()
	items := manifestItems(t, dir)
	var l net.Listener
	err := ns.Do(func() (err error) { l, err = net.Listen("tcp", "127.0.0.1:0"); return err })
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if r.URL.Query().Get("sendInitialEvents") != "" { // it is too old for that
			w.WriteHeader(http.StatusUnprocessableEntity)
			fmt.Fprint(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Invalid","code":422}`)
			return
		}
		if r.URL.Path == "/version" {
			fmt.Fprint(w, `{"major":"1","minor":"37","gitVersion":"v1.37.2"}`)
			return
		}
		if strings.HasSuffix(r.URL.Path, "/selfsubjectaccessreviews") {
			body, _ := io.ReadAll(r.Body)
			allowed := denied == "" || !strings.Contains(string(body), denied)
			fmt.Fprintf(w, `{"kind":"SelfSubjectAccessReview","apiVersion":"authorization.k8s.io/v1","spec":{},"status":{"allowed":%v}}`, allowed)
			return
		}
		if r.URL.Query().Get("watch") != "" {
			w.WriteHeader(http.StatusOK)
			w.(http.Flusher).Flush()
			<-r.Context().Done()
			return
		}
		if filepath.Base(r.URL.Path) == "events" {
			fmt.Fprint(w, `{"kind":"EventList","apiVersion":"events.k8s.io/v1","metadata":{},"items":[{"metadata":{"namespace":"default","name":"a"},"type":"Warning","reason":"FrontendConflict",`+
				`"note":"another has it","eventTime":"2026-11-29T02:58:00.000000Z","regarding":{"kind":"Service","namespace":"default","name":"web"}}]}`)
			return
		}
		of := map[string]string{"services": "Service", "endpointslices": "EndpointSlice", "nodes": "Node", "servicecidrs": "ServiceCIDR"}[filepath.Base(r.URL.Path)]
		version := strings.TrimPrefix(strings.TrimPrefix(filepath.Dir(r.URL.Path), "/apis/"), "/api/")
		list := map[string]any{"kind": of + "List", "apiVersion": version, "metadata": map[string]any{"resourceVersion": "1"}, "items": items[of]}
		_ = json.NewEncoder(w).Encode(list)
	})}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
	kubeconfig = filepath.Join(t.TempDir(), "kubeconfig")
	text := fmt.Sprintf(`{"apiVersion": "v1", "kind": "Config", "current-context": "it", "clusters": [{"name": "it", "cluster": {"server": "http://%s"}}],
"users": [{"name": "it", "user": {}}], "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}]}`, l.Addr())
	if err := os.WriteFile(kubeconfig, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return kubeconfig
}

// manifestItems returns the objects of a directory of manifests by kind.
func manifestItems(t *testing.T, dir string) map[string][]any {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no manifests in %s (%v)", dir, err)
	}
	items := map[string][]any{}
	for _, file := range files {
		text, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		defer text.Close()
		for d := yaml.NewDecoder(text); ; {
			var o map[string]any
			if err := d.Decode(&o); err != nil {
				break
			}
			kind := o["kind"].(string)
			items[kind] = append(items[kind], o)
		}
	}
	return items
}
