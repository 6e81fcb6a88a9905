// SPDX-License-Identifier: Apache-2.0

package app

import (
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nftproxy/nftproxy/e2e/netns/netnstest"
	"github.com/nftproxy/nftproxy/e2e/proxy"
)

// apiServer serves one Service and its endpoint, in plain HTTP.
func (n *node) apiServer(name string) (address string) {
	n.t.Helper()
	var l net.Listener
	must(n.t, n.Do(func() (err error) { l, err = net.Listen("tcp", "127.0.0.1:0"); return err }))
	items := map[string]string{
		"/api/v1/services": `{"metadata":{"namespace":"default","name":"` + name + `","resourceVersion":"5"},"spec":{"type":"ClusterIP","clusterIP":"10.96.0.7","clusterIPs":["10.96.0.7"],"ports":[{"port":80,"protocol":"TCP"}]}}`,
		"/apis/discovery.k8s.io/v1/endpointslices": `{"metadata":{"namespace":"default","name":"` + name + `-1","resourceVersion":"5","labels":{"kubernetes.io/service-name":"` + name +
			`"}},"addressType":"IPv4","ports":[{"name":"","port":8080,"protocol":"TCP"}],"endpoints":[{"addresses":["10.244.0.7"]},{"addresses":["10.244.0.8"]}]}`,
		"/api/v1/nodes": `{"metadata":{"name":"here","resourceVersion":"5"},"status":{"addresses":[{"type":"InternalIP","address":"172.18.0.2"}]}}`,
	}
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch {
		case r.Method != http.MethodGet:
			w.WriteHeader(http.StatusCreated)
			fmt.Fprint(w, `{}`)
		case r.URL.Query().Get("sendInitialEvents") != "":
			w.WriteHeader(http.StatusUnprocessableEntity)
			fmt.Fprint(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","code":422,"reason":"Invalid"}`)
		case r.URL.Query().Get("watch") != "":
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		default:
			fmt.Fprintf(w, `{"metadata":{"resourceVersion":"5"},"items":[%s]}`, items[r.URL.Path])
		}
	})}
	go func() { _ = server.Serve(l) }()
	n.t.Cleanup(func() { _ = server.Close() })
	return l.Addr().String()
}

func kubeconfig(address string) string {
	return `{apiVersion: v1, kind: Config, current-context: c, contexts: [{name: c, context: {cluster: c, user: u}}], users: [{name: u, user: {}}], ` +
		`clusters: [{name: c, cluster: {server: "` + address + `"}}]}`
}

// awaitKernel waits until the kernel's rules name a Service.
func (n *node) awaitKernel(service string) {
	n.t.Helper()
	for {
		state, err := n.run("dump", "--kernel")
		if err == nil && strings.Contains(state, service) {
			return
		}
		select {
		case <-n.ctx.Done():
			n.t.Fatalf("the kernel does not have %s: %v\n%s", service, err, state)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// TestKubeconfigChanges: a kubeconfig that is replaced counts, a wrong one does not. The rules stay meanwhile.
func TestKubeconfigChanges(t *testing.T) {
	n, path := newNode(t), filepath.Join(t.TempDir(), "kubeconfig")
	put := func(text string) {
		t.Helper()
		must(t, os.WriteFile(path+".new", []byte(text), 0o600))
		must(t, os.Rename(path+".new", path))
	}
	put(kubeconfig("http://" + n.apiServer("one")))
	config := filepath.Join(t.TempDir(), "config.conf")
	must(t, os.WriteFile(config, []byte(configHead+"clientConnection: {kubeconfig: "+path+"}\n"), 0o600))
	p, err := proxy.Start(n.command("run", "--config", config, "--hostname-override", "here"))
	must(t, err)
	t.Cleanup(p.Kill)
	n.awaitKernel("default/one")

	for i, wrong := range []string{"nonsense", "{apiVersion: v1, kind: Config}", kubeconfig("http://a b"),
		strings.Replace(kubeconfig("https://127.0.0.1:1"), "server:", `certificate-authority: /does/not/exist, server:`, 1),
		strings.Replace(kubeconfig("https://127.0.0.1:1"), "server:", `certificate-authority-data: bm9uc2Vuc2U=, server:`, 1)} {
		put(wrong)
		for strings.Count(p.Log(), "The kubeconfig has become wrong") != i+1 {
			select {
			case <-n.ctx.Done():
				t.Fatalf("nothing is said of the kubeconfig %s:\n%s", wrong, p.Log())
			case <-time.After(20 * time.Millisecond):
			}
		}
	}
	if strings.Contains(p.Log(), "starting again") {
		t.Errorf("a wrong kubeconfig was taken over:\n%s", p.Log())
	}
	put(kubeconfig("http://" + n.apiServer("two")))
	n.awaitKernel("default/two")
	put(kubeconfig("http://" + n.apiServer("three")))
	n.awaitKernel("default/three")
	must(t, os.WriteFile(config, []byte(configHead+"clusterCIDR: 10.9.0.0/16\nclientConnection: {kubeconfig: "+path+"}\n"), 0o600))
	n.awaitKernel("10.9.0.0/16")
	put(kubeconfig("http://" + n.apiServer("four")))
	n.awaitKernel("default/four")
	must(t, p.Stop())
}

// TestKubeconfigFiles: the files that a kubeconfig names are followed, too.
func TestKubeconfigFiles(t *testing.T) {
	dir := t.TempDir()
	ca, path := filepath.Join(dir, "ca.crt"), filepath.Join(dir, "kubeconfig")
	server := httptest.NewTLSServer(http.NotFoundHandler())
	defer server.Close()
	must(t, os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600))
	must(t, os.WriteFile(path, []byte(strings.Replace(kubeconfig("https://127.0.0.1:1"), "server:", "certificate-authority: ca.crt, server:", 1)), 0o600))
	o := flagOptions(t, "--kubeconfig", path)
	must(t, o.connect())
	var got []string
	for _, f := range o.api.files {
		got = append(got, f.what+" "+f.path)
	}
	if want := []string{"kubeconfig " + path, "certificate authority's file " + ca}; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("followed are %q, want %q", got, want)
	}
	must(t, os.WriteFile(ca, []byte("nonsense"), 0o600))
	if err := o.connect(); err == nil {
		t.Error("nonsense is taken for a certificate authority")
	}
	if len(o.api.files) != 2 || o.api.Client == nil {
		t.Error("what was in use is gone")
	}
}

// TestNoInotify: a node whose inotify instances are used up is programmed all the same, and its files are followed.
func TestNoInotify(t *testing.T) {
	netnstest.Tool(t, "nft")
	netnstest.Tool(t, "nsenter")
	n := newNode(t)
	dir := t.TempDir()
	config := filepath.Join(t.TempDir(), "config.conf")
	must(t, os.WriteFile(config, []byte(configHead), 0o600))
	// The limit belongs to a user namespace, so it takes one, and a network in it.
	script := `echo 0 > /proc/sys/user/max_inotify_instances && exec "$0" "$@"`
	program, err := os.Executable()
	must(t, err)
	cmd := exec.Command("sh", "-c", script, program, "run", "--manifests", dir, "--config", config, "--hostname-override", "here", "--socket", "")
	cmd.Env = append(os.Environ(), runEnv+"=1")
	log := &strings.Builder{}
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}, GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}}
	if err := cmd.Start(); err != nil {
		t.Skipf("missing tool: a user namespace: %v", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	ruleset := func() string {
		out, err := exec.CommandContext(n.ctx, "nsenter", "-t", fmt.Sprint(cmd.Process.Pid), "-U", "-n", "--preserve-credentials", "nft", "list", "ruleset").CombinedOutput()
		if err != nil {
			return err.Error()
		}
		return string(out)
	}
	await := func(what string) {
		t.Helper()
		for !strings.Contains(ruleset(), what) {
			select {
			case err := <-ended:
				t.Fatalf("it ended: %v\n%s", err, log)
			case <-n.ctx.Done():
				_ = cmd.Process.Kill()
				<-ended
				t.Fatalf("the kernel does not have %s: %s\n%s", what, ruleset(), log)
			case <-time.After(50 * time.Millisecond):
			}
		}
	}
	await("table ip nftproxy")
	must(t, os.CopyFS(dir, os.DirFS("testdata/services")))
	await("default/web")
	must(t, os.WriteFile(config, []byte(configHead+"clusterCIDR: 10.9.0.0/16\n"), 0o600))
	await("10.9.0.0/16")
	must(t, cmd.Process.Signal(syscall.SIGTERM))
	if err := <-ended; err != nil {
		t.Errorf("it ended: %v\n%s", err, log)
	}
	for _, want := range []string{"looking at its files every", "Nobody tells of changes of the configuration file"} {
		if strings.Count(log.String(), want) == 0 {
			t.Errorf("the log does not say %q:\n%s", want, log)
		}
	}
}
