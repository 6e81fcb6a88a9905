// SPDX-License-Identifier: Apache-2.0

package app

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/config"
	"github.com/nftproxy/nftproxy/cmd/nftproxy/kubeproxy"
	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/netns/netnstest"
	"github.com/nftproxy/nftproxy/e2e/proxy"
)

// wholeTest is how long all that a test waits for may take: a test starts nftproxy dozens of times, and a busy machine takes
// seconds for each.
const wholeTest = 5 * time.Minute

// node is a network namespace in which nftproxy runs as a process of its own.
type node struct {
	*netns.NS
	t       *testing.T
	ctx     context.Context
	program string
}

func newNode(t *testing.T) *node {
	t.Helper()
	ns, err := netns.New("node")
	must(t, err)
	t.Cleanup(func() { _ = ns.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), wholeTest)
	t.Cleanup(cancel)
	program := filepath.Join(t.TempDir(), "nftproxy") // by this name processes are known
	must(t, os.Symlink("/proc/self/exe", program))
	return &node{ns, t, ctx, program}
}

func (n *node) command(args ...string) proxy.Config {
	return proxy.Config{Program: n.program, Args: args, Env: []string{runEnv + "=1"}, NS: n.NS}
}

// run carries out a command line to its end.
func (n *node) run(args ...string) (string, error) { return proxy.Run(n.ctx, n.command(args...)) }

// start starts nftproxy with testdata's manifests.
func (n *node) start(args ...string) *proxy.Process {
	n.t.Helper()
	p, err := proxy.Start(n.command(append([]string{"run", "--manifests", "testdata/services", "--hostname-override", "here"}, args...)...))
	must(n.t, err)
	n.t.Cleanup(p.Kill)
	return p
}

// get asks for a page.
func (n *node) get(address, path string) (string, error) {
	var text []byte
	err := n.Do(func() error {
		// An http.Transport would dial on another thread.
		conn, err := net.Dial("tcp", address)
		if err != nil {
			return err
		}
		defer conn.Close()
		if _, err = fmt.Fprintf(conn, "GET %s HTTP/1.0\r\n\r\n", path); err != nil {
			return err
		}
		answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			return err
		}
		defer answer.Body.Close()
		if text, err = io.ReadAll(answer.Body); err == nil && answer.StatusCode != http.StatusOK {
			err = fmt.Errorf("get %s: %s", path, answer.Status)
		}
		return err
	})
	return string(text), err
}

// TestHealthWithoutRules: a node that never had rules gets no traffic, one with those of a former run does, whether or
// not the API server can be reached.
func TestHealthWithoutRules(t *testing.T) {
	n := newNode(t)
	const address = "127.0.0.1:10256"
	lost := func(healthz bool) {
		t.Helper()
		p, err := proxy.Start(n.command("run", "--master", "http://127.0.0.1:1", "--hostname-override", "here", "--healthz-bind-address", address))
		must(t, err)
		t.Cleanup(p.Kill)
		must(t, p.WaitLog(n.ctx, "trying again"))
		if body, err := n.get(address, "/healthz"); (err == nil) != healthz {
			t.Errorf("/healthz: %s, %v; want 200: %v", body, err, healthz)
		}
		if body, err := n.get(address, "/livez"); err != nil {
			t.Errorf("/livez: %s, %v", body, err)
		}
		must(t, p.Stop())
	}
	lost(false)
	p := n.start("--healthz-bind-address", address)
	must(t, p.WaitSynced(n.ctx))
	if _, err := n.get(address, "/healthz"); err != nil {
		t.Errorf("once all is programmed: %v", err)
	}
	must(t, p.Stop())
	lost(true)
	_, err := n.run("cleanup")
	must(t, err)
	lost(false)
}

// TestReload changes the configuration file of a running nftproxy.
func TestReload(t *testing.T) {
	n, path := newNode(t), filepath.Join(t.TempDir(), "config.conf")
	put := func(text string) { t.Helper(); must(t, os.WriteFile(path, []byte(text), 0o600)) }
	put(configHead + "mode: nftables\n")
	services := t.TempDir()
	must(t, os.CopyFS(services, os.DirFS("testdata/services")))
	p := n.start("--config", path, "--manifests", services)
	must(t, p.WaitSynced(n.ctx))

	put("") // as `cat >` begins
	put(configHead[:len(configHead)-10])
	must(t, p.WaitLog(n.ctx, "has become wrong"))
	put("clusterCIDR: 10.9.0.0/16\n") // nothing says what it is
	must(t, p.WaitLog(n.ctx, "'Kind' is missing"))
	if strings.Contains(p.Log(), "starting again") {
		t.Errorf("half a file was taken over:\n%s", p.Log())
	}

	put(configHead + "mode: nftables\nclusterCIDR: 10.9.0.0/16\nlogging: {verbosity: 2, flushFrequency: 9s}\n")
	must(t, p.WaitLog(n.ctx, "the rest when nftproxy is started again"))
	must(t, p.WaitLog(n.ctx, `changes=1 `)) // the others are there
	must(t, os.Remove(filepath.Join(services, "web.yaml")))
	must(t, p.WaitLog(n.ctx, `"Programmed"`)) // at verbosity 2
	after, err := n.run("dump", "--kernel")
	must(t, err)
	if !strings.Contains(after, "ip saddr != 10.9.0.0/16") {
		t.Errorf("the kernel does not have what the file says:\n%s", after)
	}
	if log := p.Log(); strings.Count(log, `"Starting"`) != 2 || strings.Contains(log, "Address not to be had") {
		t.Errorf("it did not start again once with the addresses that it had:\n%s", log)
	}
	text, err := n.get("127.0.0.1:10249", "/configz")
	must(t, err)
	var answer map[string]config.Config
	must(t, json.Unmarshal([]byte(text), &answer))
	c := answer["kubeproxy.config.k8s.io"]
	if c.ClusterCIDR != "10.9.0.0/16" || c.Logging.Verbosity != 2 || c.Logging.FlushFrequency.Duration.Duration == 9*time.Second {
		t.Errorf("/configz does not say what counts: %s", text)
	}
	put(configHead + "oomScoreAdj: 5000\n")
	must(t, p.WaitLog(n.ctx, "KubeProxyConfiguration.oomScoreAdj"))
	must(t, p.Stop())
}

// TestInitOnly sets up connection tracking, and nothing else.
func TestInitOnly(t *testing.T) {
	n := newNode(t)
	out, err := n.run("run", "--init-only", "--conntrack-max-per-core", "0", "--conntrack-tcp-timeout-established", "3h", "--conntrack-tcp-be-liberal")
	if err != nil {
		t.Fatal(err, out)
	}
	for name, want := range map[string]string{"tcp_timeout_established": "10800", "tcp_timeout_close_wait": "3600", "tcp_be_liberal": "1"} {
		if got, err := n.Sysctl("netfilter/nf_conntrack_" + name); err != nil || got != want {
			t.Errorf("%s is %s, %v, want %s", name, got, err, want)
		}
	}
	if out, err := n.run("dump", "--kernel"); err == nil {
		t.Errorf("there are rules:\n%s", out)
	}
}

// TestSysctlRoot: where /proc/sys is read-only, as in a container, the settings are made where it is mounted writable, and check
// says what is in force.
func TestSysctlRoot(t *testing.T) {
	netnstest.Tool(t, "unshare")
	n := newNode(t)
	root := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(root, "proc/sys/net"), 0o755))
	program, err := os.Executable()
	must(t, err)
	script := `mount --bind /proc/sys/net "$1"/proc/sys/net && mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys && shift &&
		! echo 7 2>/dev/null > /proc/sys/net/netfilter/nf_conntrack_tcp_timeout_close_wait && exec "$0" "$@"`
	run := func(args ...string) (string, error) {
		return proxy.Run(n.ctx, proxy.Config{Program: "unshare", NS: n.NS, Env: []string{runEnv + "=1"},
			Args: append([]string{"--mount", "sh", "-c", script, program, root}, args...)})
	}
	check := func(want string) {
		t.Helper()
		text, _ := n.run("check", "--manifests", "testdata/services")
		if !strings.Contains(text, want) {
			t.Errorf("check does not say %q:\n%s", want, text)
		}
	}
	check("nf_conntrack_tcp_timeout_close_wait is 60, not 3600")
	if out, initErr := run("run", "--init-only", "--conntrack-max-per-core", "0"); initErr == nil {
		t.Errorf("a read-only file system was written: %s", out)
	}
	out, err := run("run", "--init-only", "--conntrack-max-per-core", "0", "--sysctl-root", root)
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	check("tcp_timeout_established 86400, tcp_timeout_close_wait 3600") // the most that is tracked is the machine's
}

// TestCompetition names a kube-proxy whose process cannot be seen.
func TestCompetition(t *testing.T) {
	n := newNode(t)
	var l net.Listener
	must(t, n.Do(func() (err error) { l, err = net.Listen("tcp", kubeproxy.Status); return err }))
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "ipvs") })}
	defer server.Close()
	go func() { _ = server.Serve(l) }()
	p := n.start("--metrics-bind-address", "")
	must(t, p.WaitSynced(n.ctx))
	must(t, p.Stop())
	if want := `"Competition" what="kube-proxy answers at 127.0.0.1:10249, in mode ipvs`; !strings.Contains(p.Log(), want) {
		t.Errorf("the log does not say %s:\n%s", want, p.Log())
	}
}

// TestIPVSLeft: what kube-proxy's IPVS mode left is told of, counts not as the node's, and goes.
func TestIPVSLeft(t *testing.T) {
	n := newNode(t)
	handle, err := n.Netlink()
	must(t, err)
	defer handle.Close()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "kube-ipvs0"
	link := &netlink.Bridge{LinkAttrs: attrs} // a dummy, really
	must(t, handle.LinkAdd(link))
	for _, cidr := range []string{"10.96.0.99/32", "fd00:96::99/128"} {
		a, parseErr := netlink.ParseAddr(cidr)
		must(t, parseErr)
		a.Flags = unix.IFA_F_NODAD
		must(t, handle.AddrAdd(link, a))
	}
	const told = "the link kube-ipvs0 of kube-proxy's mode ipvs is there, with 2 addresses"
	out, _ := n.run("check", "--manifests", "testdata/services")
	if !strings.Contains(out, told) || !strings.Contains(out, "nftproxy cleanup --kube-proxy") || strings.Contains(out, "nothing left of one") {
		t.Errorf("check does not tell of it:\n%s", out)
	}
	p := n.start("--nodeport-addresses", "10.0.0.0/8,fd00::/8")
	must(t, p.WaitSynced(n.ctx))
	if !strings.Contains(p.Log(), `"Competition" what="`+told) {
		t.Errorf("the log does not tell of it:\n%s", p.Log())
	}
	out, err = n.run("dump", "--kernel")
	must(t, err)
	if strings.Contains(out, "10.96.0.99") || strings.Contains(out, "fd00:96::99") {
		t.Errorf("NodePorts are served at addresses of Services:\n%s", out)
	}
	out, err = n.run("cleanup", "--kube-proxy")
	if err != nil || !strings.Contains(out, "its tables stay\nremoved kube-proxy's link kube-ipvs0, with 2 addresses\n") {
		t.Errorf("cleanup: %v, %q", err, out)
	}
	must(t, p.Stop())
	if _, err := handle.LinkByName("kube-ipvs0"); err == nil {
		t.Error("the link is still there")
	}
	if out, _ := n.run("check", "--manifests", "testdata/services"); !strings.Contains(out, "none, and nothing left of one") {
		t.Errorf("after cleanup check finds something left:\n%s", out)
	}
	if out, err := n.run("cleanup", "--kube-proxy"); err != nil || !strings.Contains(out, "kube-proxy has left nothing in nftables") {
		t.Errorf("a second cleanup: %v, %q", err, out)
	}
}
