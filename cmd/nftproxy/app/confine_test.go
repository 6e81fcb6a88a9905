// SPDX-License-Identifier: Apache-2.0

package app

import (
	"bytes"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"testing"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/sandbox"
	"github.com/nftproxy/nftproxy/e2e/proxy"
)

// TestConfinement runs the program without cgo, which this test may have: cgo leaves it unconfined.
func TestConfinement(t *testing.T) {
	if _, err := sandbox.ABI(); err != nil {
		t.Skip("no Landlock: ", err)
	}
	program := withoutCgo(t)
	for name, test := range map[string]func(*node){
		"follows its files": (*node).testFollow, "has another kubeconfig out of reach": (*node).testOutOfReach,
		"reaches an API server": (*node).testCluster, "sets what is elsewhere": (*node).testSysctlRoot, "runs its own plugin": (*node).testPlugin, "never": (*node).testNever,
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			if program != "" {
				n.program = program
			}
			test(n)
		})
	}
}

// withoutCgo builds the program without cgo; "" if this test is without.
func withoutCgo(t *testing.T) (program string) {
	t.Helper()
	info, _ := debug.ReadBuildInfo()
	if slices.Contains(info.Settings, debug.BuildSetting{Key: "CGO_ENABLED", Value: "0"}) {
		return ""
	}
	program = filepath.Join(t.TempDir(), "nftproxy")
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", program, "..") // as make build
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return program
}

// rights says what a process has left, whatever it had.
func rights(t *testing.T, p *proxy.Process) sandbox.State {
	t.Helper()
	s, err := sandbox.Of("/proc", fmt.Sprint(p.Pid()))
	must(t, err)
	return s
}

// testFollow: a running nftproxy is confined, says so, and follows its files all the same.
func (n *node) testFollow() {
	t, dir := n.t, n.t.TempDir()
	services, config := filepath.Join(dir, "services"), filepath.Join(dir, "config/config.conf")
	must(t, os.CopyFS(services, os.DirFS("testdata/services")))
	must(t, os.Mkdir(filepath.Dir(config), 0o755))
	must(t, os.WriteFile(config, []byte(configHead+"enableProfiling: true\n"), 0o600))
	p := n.start("--config", config, "--manifests", services)
	must(t, p.WaitSynced(n.ctx))
	state := rights(t, p)
	if !state.Confined() {
		t.Errorf("it is not confined: %s", state)
	}
	if want := fmt.Sprintf("\"Confinement\" state=%q\n", state); !strings.Contains(p.Log(), want) {
		t.Errorf("the log does not say %s:\n%s", want, p.Log())
	}
	for path, want := range map[string]string{"/statusz": "Confinement: " + state.String() + "\n", "/metrics": "process_open_fds", "/debug/pprof/heap?debug=1": "heap profile"} {
		if got, err := n.get("127.0.0.1:10249", path); err != nil || !strings.Contains(got, want) {
			t.Errorf("%s does not say %q: %v\n%s", path, want, err, got)
		}
	}
	if out, _ := n.run("check"); !strings.Contains(out, fmt.Sprintf("of nftproxy, process %d: %s", p.Pid(), state)) {
		t.Errorf("check does not say it:\n%s", out)
	}
	if out, err := n.run("diff"); err != nil || !strings.HasPrefix(out, "equal") {
		t.Errorf("its options cannot be taken over: %v: %s", err, out)
	}

	must(t, os.Rename(services, services+".old"))
	must(t, os.Mkdir(services, 0o755))
	must(t, os.WriteFile(config+".new", []byte(configHead+"clusterCIDR: 10.9.0.0/16\n"), 0o600))
	must(t, os.Rename(config+".new", config))
	n.await("ip saddr != 10.9.0.0/16")
	must(t, os.WriteFile(filepath.Join(services, "new.yaml"), bytes.ReplaceAll(read(t, services+".old/web.yaml"), []byte("name: web"), []byte("name: other")), 0o600))
	n.await("default/other")
	must(t, p.Stop())
}

// await waits until the kernel holds something.
func (n *node) await(text string) {
	n.t.Helper()
	for {
		out, err := n.run("dump", "--kernel")
		if strings.Contains(out, text) {
			return
		}
		if n.ctx.Err() != nil {
			n.t.Fatalf("the kernel does not get %q: %v: %s", text, err, out)
		}
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	must(t, err)
	return text
}

// cluster writes a kubeconfig with more of the user.
func (n *node) cluster(path, user string) {
	n.t.Helper()
	must(n.t, os.MkdirAll(filepath.Dir(path), 0o755))
	must(n.t, os.WriteFile(path, fmt.Appendf(nil, `{apiVersion: v1, kind: Config, current-context: c,
 clusters: [{name: c, cluster: {server: "https://127.0.0.1:1"}}],
 contexts: [{name: c, context: {cluster: c, user: u}}],
 users: [{name: u, user: {%s}}]}`, user), 0o600))
}

// testOutOfReach: a configuration that needs more than is left is refused, and the last one stays.
func (n *node) testOutOfReach() {
	t, dir := n.t, n.t.TempDir()
	config, near, far := filepath.Join(dir, "a/config.conf"), filepath.Join(dir, "a/proxy.conf"), filepath.Join(dir, "b/proxy.conf")
	n.cluster(near, "token: x")
	n.cluster(far, "token: x")
	put := func(name string) {
		t.Helper()
		must(t, os.WriteFile(config, fmt.Appendf(nil, "%sclientConnection: {kubeconfig: %s}\n", configHead, name), 0o600))
	}
	put(near)
	p, err := proxy.Start(n.command("run", "--config", config))
	must(t, err)
	t.Cleanup(p.Kill)
	must(t, p.WaitLog(n.ctx, `"Starting"`))
	put(far)
	must(t, p.WaitLog(n.ctx, far+": permission denied: this process has given up that right (--sandbox): start nftproxy again to use it"))
	n.cluster(filepath.Join(dir, "a/plugin.conf"), "exec: {apiVersion: client.authentication.k8s.io/v1, interactiveMode: Never, command: /bin/true}")
	put(filepath.Join(dir, "a/plugin.conf"))
	must(t, p.WaitLog(n.ctx, "the kubeconfig names a credential plugin, \\\"/bin/true\\\": this process has given up that right"))
	n.cluster(filepath.Join(dir, "a/next.conf"), "token: z")
	put(filepath.Join(dir, "a/next.conf"))
	must(t, p.WaitLog(n.ctx, "starting again with it"))
	must(t, p.Stop())
}

// testPlugin: the credential plugin of nftproxy's own kubeconfig runs, and what stays off is told.
func (n *node) testPlugin() {
	t, dir := n.t, n.t.TempDir()
	marker, kubeconfig := filepath.Join(dir, "elsewhere"), filepath.Join(dir, "a/proxy.conf")
	n.cluster(kubeconfig, fmt.Sprintf(`exec: {apiVersion: client.authentication.k8s.io/v1, interactiveMode: Never, command: touch, args: [%q]}`, marker))
	p, err := proxy.Start(n.command("run", "--kubeconfig", kubeconfig))
	must(t, err)
	t.Cleanup(p.Kill)
	must(t, p.WaitLog(n.ctx, `notes="the bounding set, no_new_privs, Landlock: the credential plugin \"touch\" would inherit them"`))
	must(t, p.WaitLog(n.ctx, "exec plugin")) // its answer is none
	if _, err := os.Stat(marker); err != nil {
		t.Errorf("the plugin did not run: %v\n%s", err, p.Log())
	}
	must(t, p.Stop())
}

// testNever: --sandbox=never leaves all rights, and says so.
func (n *node) testNever() {
	t := n.t
	p := n.start("--sandbox=never")
	must(t, p.WaitSynced(n.ctx))
	if state := rights(t, p); state.NoNewPrivileges || state.Landlock || !strings.Contains(p.Log(), `notes="all: --sandbox=never"`) {
		t.Errorf("%s:\n%s", state, p.Log())
	}
	if out, _ := n.run("check"); !strings.Contains(out, "no_new_privs off; Landlock off; the line Confinement in its log says why") {
		t.Errorf("check does not warn:\n%s", out)
	}
	must(t, p.Stop())
	if out, err := n.run("run", "--sandbox=much", "--manifests", "testdata/services"); err == nil || !strings.Contains(out, `--sandbox: "much" is none of auto, never`) {
		t.Errorf("%v: %s", err, out)
	}
}

// testCluster: an API server by its name is reached, with the files that the kubeconfig names, and connection
// tracking is set up.
func (n *node) testCluster() {
	t, dir := n.t, n.t.TempDir()
	var l net.Listener
	must(t, n.Do(func() (err error) { l, err = net.Listen("tcp", "127.0.0.1:0"); return err }))
	server := httptest.NewUnstartedServer(http.HandlerFunc(answerEmpty))
	must(t, server.Listener.Close())
	server.Listener = l
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // clients that end while they connect
	server.StartTLS()
	t.Cleanup(server.Close)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	for path, text := range map[string]string{"ca/ca.crt": string(ca), "token/token": "secret", "a/proxy.conf": fmt.Sprintf(`{apiVersion: v1, kind: Config, current-context: c,
 clusters: [{name: c, cluster: {server: "https://localhost:%d", tls-server-name: example.com, certificate-authority: ../ca/ca.crt}}],
 contexts: [{name: c, context: {cluster: c, user: u}}], users: [{name: u, user: {tokenFile: ../token/token}}]}`, l.Addr().(*net.TCPAddr).Port)} {
		must(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, path)), 0o755))
		must(t, os.WriteFile(filepath.Join(dir, path), []byte(text), 0o600))
	}
	p, err := proxy.Start(n.command("run", "--kubeconfig", filepath.Join(dir, "a/proxy.conf"), "--hostname-override", "here", "--conntrack-max-per-core", "0",
		"--conntrack-tcp-timeout-established", "3h", "--oom-score-adj", "500"))
	must(t, err)
	t.Cleanup(p.Kill)
	must(t, p.WaitSynced(n.ctx))
	if state := rights(t, p); !state.Confined() {
		t.Errorf("it is not confined: %s", state)
	}
	if got, err := n.Sysctl("netfilter/nf_conntrack_tcp_timeout_established"); err != nil || got != "10800" {
		t.Errorf("connection tracking is not set up: %s, %v\n%s", got, err, p.Log())
	}
	if got := read(t, fmt.Sprintf("/proc/%d/oom_score_adj", p.Pid())); string(got) != "500\n" {
		t.Errorf("the OOM score is %s", got)
	}
	must(t, p.Stop())
}

// testSysctlRoot: what --sysctl-root says where it is can be written.
func (n *node) testSysctlRoot() {
	t, dir := n.t, n.t.TempDir()
	hashsize, most := filepath.Join(dir, "sys/module/nf_conntrack/parameters/hashsize"), filepath.Join(dir, "proc/sys/net/netfilter/nf_conntrack_max")
	for _, file := range []string{hashsize, most} {
		must(t, os.MkdirAll(filepath.Dir(file), 0o755))
		must(t, os.WriteFile(file, []byte("1"), 0o600))
	}
	n.cluster(filepath.Join(dir, "a/proxy.conf"), "token: x")
	p, err := proxy.Start(n.command("run", "--kubeconfig", filepath.Join(dir, "a/proxy.conf"), "--sysctl-root", dir,
		"--conntrack-tcp-timeout-established", "0", "--conntrack-tcp-timeout-close-wait", "0"))
	must(t, err)
	t.Cleanup(p.Kill)
	must(t, p.WaitLog(n.ctx, `"Starting"`))
	if state := rights(t, p); !state.Confined() {
		t.Errorf("it is not confined: %s", state)
	}
	for _, file := range []string{hashsize, most} {
		if got := string(read(t, file)); got == "1" {
			t.Errorf("%s is not set:\n%s", file, p.Log())
		}
	}
	must(t, p.Stop())
}

// answerEmpty is an API server with one Node and nothing else.
func answerEmpty(w http.ResponseWriter, r *http.Request) {
	kinds := map[string]string{"services": "v1 ServiceList", "nodes": "v1 NodeList", "endpointslices": "discovery.k8s.io/v1 EndpointSliceList", "servicecidrs": "networking.k8s.io/v1 ServiceCIDRList"}
	list, known := kinds[path.Base(r.URL.Path)]
	status := func(code int) {
		w.WriteHeader(code)
		fmt.Fprintf(w, `{"apiVersion": "v1", "kind": "Status", "status": "Failure", "code": %d}`, code)
	}
	w.Header().Set("Content-Type", "application/json")
	switch {
	case r.Header.Get("Authorization") != "Bearer secret":
		status(http.StatusUnauthorized)
	case !known:
		status(http.StatusNotFound)
	case r.URL.Query().Get("sendInitialEvents") != "":
		status(http.StatusUnprocessableEntity)
	case r.URL.Query().Get("watch") != "":
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	default:
		version, kind, _ := strings.Cut(list, " ")
		items := ""
		if kind == "NodeList" {
			items = `{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "here", "resourceVersion": "1"}, "status": {"addresses": [{"type": "InternalIP", "address": "172.18.0.2"}]}}`
		}
		fmt.Fprintf(w, `{"apiVersion": %q, "kind": %q, "metadata": {"resourceVersion": "1"}, "items": [%s]}`, version, kind, items)
	}
}
