// SPDX-License-Identifier: Apache-2.0

//go:build linux

package packets

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/proxy"
	"github.com/nftproxy/nftproxy/e2e/traffic"
	"github.com/nftproxy/nftproxy/rules/inspect"
)

// traced says whether the node has the table of `nftproxy trace`.
func (w *world) traced(t *testing.T) bool {
	t.Helper()
	var chains []inspect.BaseChain
	err := w.Node.Do(func() error {
		i, err := inspect.Open()
		if err != nil {
			return err
		}
		defer func() { _ = i.Close() }()
		chains, err = i.BaseChains()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return slices.ContainsFunc(chains, func(c inspect.BaseChain) bool { return c.Table == "nftproxy-trace" })
}

// story connects until `nftproxy trace` has told a story that has all texts. Its first
// connections may be before it is ready.
func (w *world) story(t *testing.T, trace *proxy.Process, from netns.Host, p traffic.Protocol, to netip.AddrPort, want ...string) {
	t.Helper()
	client := traffic.Client{NS: from.NS, Timeout: 100 * time.Millisecond}
	eventually(t, fmt.Sprintf("from %s to %s %s: a story with %q", from.Name(), p, to, want), func() error {
		client.Connect(t.Context(), p, to)
		for _, line := range strings.Split(trace.Log(), "\n") {
			found := strings.Contains(line, fmt.Sprintf(" -> %s/%s ", to, strings.ToLower(p.String()))) && strings.Contains(line, "  "+fromText(from, to))
			for _, text := range want {
				found = found && strings.Contains(line, text)
			}
			if found {
				return nil
			}
		}
		return fmt.Errorf("told was\n%s", trace.Log())
	})
}

// fromText is how a story names its client, without the port.
func fromText(from netns.Host, to netip.AddrPort) string {
	if to.Addr().Is6() {
		return "[" + from.V6.String() + "]:"
	}
	return from.V4.String() + ":"
}

// hasOwnedTables says whether the kernel has tables that go with the socket that made them.
func (w *world) hasOwnedTables(t *testing.T) bool {
	t.Helper()
	conn := w.nft(t)
	owned := conn.AddTable(&nftables.Table{Name: "owned", Family: nftables.TableFamilyINet, Flags: nftables.TableFlagOwner})
	err := conn.Flush() // the table goes with the socket, which is for this only
	if err != nil && !errors.Is(err, unix.EINVAL) {
		t.Fatalf("add table %s: %v", owned.Name, err)
	}
	return err == nil
}

// TestTrace: each way that a connection can go has its story.
func TestTrace(t *testing.T) {
	t.Parallel()
	w := newWorld(t, config{})
	a, b := w.Local[0], w.RemotePods[0]
	many := w.service("many").to(ready(a, b))
	single := w.service("single").to(ready(b))
	self := w.service("self").to(ready(w.Client))
	none := w.service("none")
	elsewhere := w.service("elsewhere", internalLocal).to(ready(b))
	sticky := w.service("sticky", sticky(10800)).to(ready(b))
	walled := w.full("walled", sourceRanges("10.99.0.0/16", "fd00:99::/64")).to(ready(a, b))
	w.apply(t, many, single, self, none, elsewhere, sticky, walled)
	if !w.hasOwnedTables(t) {
		if out, err := proxy.Run(patient(t), w.process("trace")); err == nil || !strings.Contains(out, "it takes Linux 5.12") {
			t.Errorf("trace on a kernel without tables that have an owner: %v\n%s", err, out)
		}
		t.Skip("this kernel has no tables that have an owner")
	}
	trace, err := proxy.Start(w.process("trace", "--manifests", w.manifests.Dir, "--hostname-override", "node", "--rules"))
	if err != nil {
		t.Fatal(err)
	}
	defer trace.Kill()
	for _, p := range []traffic.Protocol{traffic.TCP, traffic.UDP} {
		for _, f := range netns.Families() {
			endpoint := func(h netns.Host) string {
				return "to endpoint " + netip.AddrPortFrom(h.Addr(f), backendPort).String()
			}
			const own = "from the client's own address"
			w.story(t, trace, w.Client, p, many.at(f, servicePort), "test/many", endpoint(a), own)
			w.story(t, trace, w.Client, p, many.at(f, servicePort), "test/many", endpoint(b), own)
			w.story(t, trace, w.Client, p, single.at(f, servicePort), "test/single", endpoint(b), own)
			w.story(t, trace, w.Outside, p, single.at(f, servicePort), "test/single", endpoint(b), "masqueraded as "+w.Node.Addr(f).String())
			w.story(t, trace, w.Client, p, sticky.at(f, servicePort), "test/sticky", endpoint(b), own)
			w.story(t, trace, w.Client, p, self.at(f, servicePort), "test/self", endpoint(w.Client), "masqueraded as ")
			w.story(t, trace, w.Client, p, none.at(f, servicePort), "test/none", "refused")
			w.story(t, trace, w.Client, p, elsewhere.at(f, servicePort), "test/elsewhere", "dropped: the traffic policy is Local")
			w.story(t, trace, w.Outside, p, w.address(walled, loadBalancer, p, f), "test/walled", "dropped: loadBalancerSourceRanges do not let the client in")
		}
	}
	if log := trace.Log(); !strings.Contains(log, "services > service/test/many") {
		t.Errorf("no chains are shown:\n%s", log)
	}
	if !w.traced(t) {
		t.Error("there is no table of the trace: the test cannot see that it goes")
	}
	if err = syscall.Kill(trace.Pid(), syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	gone := func() error {
		if w.traced(t) {
			return fmt.Errorf("its table is still there")
		}
		return nil
	}
	eventually(t, "after SIGINT the table goes", gone)

	// Killed, it leaves nothing either.
	trace, err = proxy.Start(w.process("trace", "--proto", "udp", "--to", many.at(netns.IPv4, servicePort).String()))
	if err != nil {
		t.Fatal(err)
	}
	w.story(t, trace, w.Client, traffic.UDP, many.at(netns.IPv4, servicePort), "test/many", "to endpoint ")
	for _, p := range []struct {
		p  traffic.Protocol
		to netip.AddrPort
	}{{traffic.TCP, many.at(netns.IPv4, servicePort)}, {traffic.UDP, single.at(netns.IPv4, servicePort)}} {
		traffic.Client{NS: w.Client.NS}.Connect(t.Context(), p.p, p.to)
	}
	w.story(t, trace, w.Client, traffic.UDP, many.at(netns.IPv4, servicePort), "test/many", "to endpoint ")
	if log := trace.Log(); strings.Contains(log, "/tcp ") || strings.Contains(log, single.at(netns.IPv4, servicePort).String()) {
		t.Errorf("it tells of what it was not asked for:\n%s", log)
	}
	trace.Kill()
	eventually(t, "after SIGKILL the table goes", gone)
	w.run(t, "trace", "--for", "10ms")
	if err := gone(); err != nil {
		t.Errorf("after --for %v", err)
	}
}

// keepConnecting connects to one Service over IPv4 and TCP, and a quarter as often to another one over IPv6 and UDP, until it is
// stopped.
func (w *world) keepConnecting(t *testing.T, busy, calm *svc) (stop func()) {
	client := traffic.Client{NS: w.Client.NS}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; ctx.Err() == nil; i++ {
			client.Connect(ctx, traffic.TCP, busy.at(netns.IPv4, servicePort))
			if i%4 == 0 {
				client.Connect(ctx, traffic.UDP, calm.at(netns.IPv6, servicePort))
			}
		}
	}()
	return func() { cancel(); <-done }
}

// busyWorld is a world whose Service busy has two endpoints, and calm the second of them; both are connected to until stop is called.
// Its nftproxy answers at the socket.
func busyWorld(t *testing.T) (w *world, socket string, busy, calm *svc, stop func()) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "TABLE.sock")
	w = newWorld(t, config{args: []string{"--socket", socket}})
	busy = w.service("busy").to(ready(w.Local[0], w.RemotePods[0]))
	calm = w.service("calm").to(ready(w.RemotePods[0]))
	w.apply(t, busy, calm)
	return w, socket, busy, calm, w.keepConnecting(t, busy, calm)
}

// TestTop counts connections as they are made.
func TestTop(t *testing.T) {
	t.Parallel()
	w, socket, busy, calm, stop := busyWorld(t)
	a, b := w.Local[0], w.RemotePods[0]
	busyRow := fmt.Sprintf(`(?m)^test/busy\S*\s+%s/tcp\s+(\d+\.\d)\s+\d+\s+(?:%s|%s) (\d+)%%, \S+ (\d+)%%$`, regexp.QuoteMeta(busy.at(netns.IPv4, servicePort).String()),
		regexp.QuoteMeta(netip.AddrPortFrom(a.V4, backendPort).String()), regexp.QuoteMeta(netip.AddrPortFrom(b.V4, backendPort).String()))
	calmRow := fmt.Sprintf(`(?m)^test/calm\S*\s+%s/udp\s+\d+\.\d\s+\d+\s+%s 100%%$`, regexp.QuoteMeta(calm.at(netns.IPv6, servicePort).String()),
		regexp.QuoteMeta(netip.AddrPortFrom(b.V6, backendPort).String()))
	// On a slow machine it takes long until there are connections to both.
	interval := 150 * time.Millisecond
	top := func(has func(string) bool, args ...string) (text string) {
		t.Helper()
		eventually(t, "top telling of both services", func() error {
			interval *= 2
			if text = w.run(t, append([]string{"top", "--once", "--interval", interval.String()}, args...)...); !has(text) {
				return fmt.Errorf("in %s it tells of\n%s", interval, text)
			}
			return nil
		})
		return text
	}
	both := func(s string) bool {
		return regexp.MustCompile(busyRow).MatchString(s) && regexp.MustCompile(calmRow).MatchString(s)
	}
	text := top(both, "--manifests", w.manifests.Dir, "--hostname-override", "node")
	top(both, "--socket", socket) // whose nftproxy knows the names
	seconds := interval.Seconds()
	short := top(func(s string) bool { return strings.Contains(s, "and 1 more") }, "-n", "1", "--socket", "")
	stop()
	if row := regexp.MustCompile(busyRow).FindStringSubmatch(text); row != nil {
		var rate, more, less float64
		for i, to := range []*float64{&rate, &more, &less} {
			if *to, _ = strconv.ParseFloat(row[i+1], 64); *to == 0 {
				t.Fatalf("row %q", row)
			}
		}
		if connections := rate * seconds; more-less > 4*100/connections+2 { // round robin: one connection more, some that did not come about in time, and rounding
			t.Errorf("of %.0f connections one endpoint got %v %%, the other %v %%", connections, more, less)
		}
	}
	if lines := strings.Split(strings.TrimSpace(text), "\n"); len(lines) != 3 || !strings.HasPrefix(lines[1], "test/busy") {
		t.Errorf("the busiest is not first of two:\n%s", text)
	}
	if !strings.Contains(short, "test/busy") || strings.Contains(short, "calm") || !strings.Contains(short, "and 1 more") {
		t.Errorf("from the kernel alone, one row:\n%s", short)
	}
}

// TestCheck: what is fine, and what is not.
func TestCheck(t *testing.T) {
	t.Parallel()
	w := newWorld(t, config{})
	check := func(code int, want ...string) {
		t.Helper()
		out, err := proxy.Run(patient(t), w.process("check", "--manifests", w.manifests.Dir))
		if (err != nil) != (code != 0) {
			t.Errorf("check: %v, want exit code %d", err, code)
		}
		for _, pattern := range want {
			if !regexp.MustCompile("(?m)^" + pattern).MatchString(out) {
				t.Errorf("no line like %q in\n%s", pattern, out)
			}
		}
	}
	check(0, `ok +kernel +\d`, "ok +nftables: round robin", "ok +nftables: session affinity", "ok +nftables: source ranges", "ok +nftables: NodePorts",
		"ok +kube-proxy", "ok +other nat chains", "ok +connection tracking", "ok +forwarding, IPv4 +on", "ok +forwarding, IPv6 +on", `ok +manifests +\d+ Services`)
	outer := w.full("outer").to(ready(w.Local[0]), ready(w.RemotePods[0]))
	w.apply(t, outer)
	for _, p := range []traffic.Protocol{traffic.TCP, traffic.UDP} {
		port := w.address(outer, nodePort, p, netns.IPv4).Port()
		for _, tt := range []struct{ host, want string }{
			{"127.0.0.1", `ok +NodePorts +\d+, and no other program`}, {"0.0.0.0", fmt.Sprintf(`warning +NodePorts +%d/%s of test/outer.*: another program listens there, too`, port, strings.ToLower(p.String()))},
			{"[::]", fmt.Sprintf("warning +NodePorts +%d/", port)}, {w.Node.V4.String(), fmt.Sprintf("warning +NodePorts +%d/", port)},
		} {
			var listener io.Closer
			if err := w.Node.Do(func() (err error) {
				at := fmt.Sprintf("%s:%d", tt.host, port)
				if p == traffic.UDP {
					listener, err = net.ListenPacket("udp", at)
				} else {
					listener, err = net.Listen("tcp", at)
				}
				return err
			}); err != nil {
				t.Fatal(err)
			}
			check(0, tt.want)
			_ = listener.Close()
		}
	}
	if strings.Contains(w.run(t, "check", "--manifests", w.manifests.Dir)+w.run(t, "dump", "--kernel"), "nftproxy-check") {
		t.Error("its table is left")
	}
	if err := w.Node.SetSysctl("ipv4/ip_forward", "0"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(w.manifests.Dir+"/broken.yaml", []byte("kind: Nonsense\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	check(1, "warning +forwarding, IPv4 +off: .*sysctl -w net.ipv4.ip_forward=1", "failed +manifests +.*broken.yaml")
	if err := w.Node.SetSysctl("ipv4/ip_forward", "1"); err != nil {
		t.Fatal(err)
	}
}
