// SPDX-License-Identifier: Apache-2.0

//go:build linux

package packets

import (
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/netns/netnstest"
	"github.com/nftproxy/nftproxy/e2e/proxy"
	"github.com/nftproxy/nftproxy/e2e/traffic"
)

// broken is a way in which connections to a Service break.
type broken struct {
	name     string
	from     netns.Host
	service  *svc
	port     uint16
	tcp, udp string // what is told of it
}

// brokenWays makes Services and another program's rules for each way.
func (w *world) brokenWays(t *testing.T) []broken {
	t.Helper()
	r := w.RemotePods
	away := func(v4, v6 string) netns.Host {
		return netns.Host{NS: w.Remote.NS, V4: netip.MustParseAddr(v4), V6: netip.MustParseAddr(v6)}
	}
	closed := func(name string) option {
		return func(s *corev1.Service) {
			for _, p := range []traffic.Protocol{traffic.TCP, traffic.UDP} {
				port(name+"-closed-"+strings.ToLower(p.String()), p, 81, 9)(s)
				port(name+"-open-"+strings.ToLower(p.String()), p, servicePort, backendPort)(s)
			}
		}
	}
	fine := w.service("fine").to(ready(r[0]))
	shut := w.service("shut", closed("shut")).to(ready(r[0]))
	here := w.service("here", closed("here")).to(ready(w.Node))
	dead := w.service("dead").to(ready(away("172.18.0.77", "fd00:172:18::77")))
	lost := w.service("lost").to(ready(away("192.0.2.9", "2001:db8::9")))
	policy := w.service("policy").to(ready(r[1]))
	reject := w.service("reject").to(ready(r[2]))
	drop := w.service("drop").to(ready(r[3]))
	answer := w.service("answer").to(ready(r[4]))
	early := w.service("early").to(ready(w.Local[0]))
	stolen := w.service("stolen").to(ready(r[0]))
	w.apply(t, fine, shut, here, dead, lost, policy, reject, drop, answer, early, stolen)
	script := fmt.Sprintf(`table inet fw {
 chain forward { type filter hook forward priority 0; policy drop;
  meta nfproto ipv4 ip daddr != %[1]s accept
  meta nfproto ipv6 ip6 daddr != %[2]s accept
 }
 chain guard { type filter hook forward priority 5; policy accept;
  ip daddr %[3]s reject
  ip6 daddr %[4]s reject
  ip daddr %[5]s jump deep
  ip6 daddr %[6]s jump deep
  ip saddr %[7]s drop
  ip6 saddr %[8]s drop
 }
 chain deep { counter drop
 }
 chain early { type filter hook prerouting priority -300; policy accept;
  ip saddr %[9]s drop
  ip6 saddr %[10]s meta l4proto != icmpv6 drop
 }
 chain steal { type nat hook prerouting priority -110; policy accept;
  ip daddr %[11]s dnat ip to %[13]s
  ip6 daddr %[12]s dnat ip6 to %[14]s
 }
}`, r[1].V4, r[1].V6, r[2].V4, r[2].V6, r[3].V4, r[3].V6, r[4].V4, r[4].V6, w.Local[0].V4, w.Local[0].V6,
		stolen.at(netns.IPv4, servicePort).Addr(), stolen.at(netns.IPv6, servicePort).Addr(), w.Node.V4, w.Node.V6)
	cmd := exec.Command(netnstest.Tool(t, "nft"), "-f", "-")
	cmd.Stdin = strings.NewReader(script)
	if err := w.Node.Do(func() error {
		out, err := cmd.CombinedOutput()
		if err != nil {
			err = fmt.Errorf("%w: %s", err, out)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	w.unroute(t, "192.0.2.9/32", "2001:db8::9/128")
	const fromClient, noRoute = "from the client's own address: ", ", then not sent: no route to "
	return []broken{
		{"answered", w.Client, fine, servicePort, fromClient + "answered", fromClient + "answered"},
		{"answered by this node", w.Client, here, servicePort, ": answered", ": answered"},
		{"answered by this node to itself", w.Node, here, servicePort, ": answered", ": answered"},
		{"closed port", w.Client, shut, 81, fromClient + "refused by the endpoint (RST)", fromClient + "refused by the endpoint (ICMP port unreachable)"},
		{"closed port, from the node", w.Node, shut, 81, "refused by the endpoint (RST)", "refused by the endpoint (ICMP port unreachable)"},
		{"closed port of this node", w.Client, here, 81, "refused by the endpoint (RST)", "refused by the endpoint (ICMP port unreachable)"},
		{"closed port of this node, from itself", w.Node, here, 81, "refused by the endpoint (RST)", "refused by the endpoint (ICMP port unreachable)"},
		{"dead endpoint", w.Client, dead, servicePort, fromClient + "no answer within 1s", fromClient + "no answer within 1s"},
		{"dead endpoint, from the node", w.Node, dead, servicePort, "no answer within 1s", "no answer within 1s"},
		{"no route", w.Client, lost, servicePort, noRoute, noRoute},
		{"no route from the node", w.Node, lost, servicePort, "not sent: no route to the endpoint", "not sent: no route to the endpoint"},
		{"foreign policy", w.Client, policy, servicePort, "then dropped by inet fw/forward (policy drop)", "then dropped by inet fw/forward (policy drop)"},
		{"foreign reject", w.Client, reject, servicePort, "then refused by inet fw/guard (rule with handle ", "then refused by inet fw/guard (rule with handle "},
		{"foreign rule", w.Client, drop, servicePort, "then dropped by inet fw/deep (rule with handle ", "then dropped by inet fw/deep (rule with handle "},
		{"answer dropped", w.Client, answer, servicePort, "answered, but the answer was dropped by inet fw/guard (rule with handle ", ": answered"},
		{"answer dropped before connection tracking", w.Client, early, servicePort, "answered, but the answer was dropped by inet fw/early (rule with handle ", fromClient + "no answer within 1s"},
		{"rewritten by another program", w.Client, stolen, servicePort, ", which inet fw/steal chose, from the client's own address: refused by the endpoint (RST)", ", which inet fw/steal chose, from the client's own address: refused by the endpoint (ICMP port unreachable)"},
		{"unserved port", w.Client, fine, 82, "refused: there is no endpoint, or no such port", "refused: there is no endpoint, or no such port"},
		{"unserved port, from the node", w.Node, fine, 82, "refused: there is no endpoint, or no such port", "refused: there is no endpoint, or no such port"},
	}
}

// unroute has the node refuse to route packets to addresses.
func (w *world) unroute(t *testing.T, list ...string) {
	t.Helper()
	handle, err := w.Node.Netlink()
	if err != nil {
		t.Fatal(err)
	}
	defer handle.Close()
	for _, to := range list {
		_, dst, err := net.ParseCIDR(to)
		if err == nil {
			err = handle.RouteAdd(&netlink.Route{Dst: dst, Type: unix.RTN_UNREACHABLE})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestTraceBroken: of each way to break a connection the story is right, and no other one is told.
func TestTraceBroken(t *testing.T) {
	t.Parallel()
	w := newWorld(t, config{node: true})
	if !w.hasOwnedTables(t) {
		t.Skip("this kernel has no tables that have an owner")
	}
	ways := w.brokenWays(t)
	trace, err := proxy.Start(w.process("trace", "--manifests", w.manifests.Dir, "--hostname-override", "node"))
	if err != nil {
		t.Fatal(err)
	}
	defer trace.Kill()
	for _, b := range ways {
		for _, f := range netns.Families() {
			for p, want := range map[traffic.Protocol]string{traffic.TCP: b.tcp, traffic.UDP: b.udp} {
				t.Run(fmt.Sprintf("%s %s %s", b.name, p, f), func(t *testing.T) {
					to := b.service.at(f, b.port)
					before := len(trace.Log())
					w.story(t, trace, b.from, p, to, want)
					client := fromText(b.from, to)
					for line := range strings.Lines(trace.Log()[before:]) {
						gone := strings.HasPrefix(b.name, "dead endpoint") && strings.Contains(line, "cannot be reached (ICMP") // the kernel finds that out after 3 s
						if strings.Contains(line, fmt.Sprintf(" -> %s/%s ", to, strings.ToLower(p.String()))) && strings.Contains(line, "  "+client) && !strings.Contains(line, want) && !gone {
							t.Errorf("a wrong line: %s", line)
						}
					}
				})
			}
		}
	}
}

// TestTraceService: a Service is chosen by its name, one that comes is known at once, and lines are objects.
func TestTraceService(t *testing.T) {
	t.Parallel()
	for _, asks := range []bool{false, true} {
		t.Run(fmt.Sprintf("asks=%v", asks), func(t *testing.T) {
			t.Parallel()
			traceService(t, asks)
		})
	}
}

func traceService(t *testing.T, asks bool) {
	socket := filepath.Join(t.TempDir(), "TABLE.sock")
	w := newWorld(t, config{args: []string{"--socket", socket}})
	from := []string{"--manifests", w.manifests.Dir, "--hostname-override", "node"}
	if asks {
		from = []string{"--socket", socket}
	}
	if !w.hasOwnedTables(t) {
		t.Skip("this kernel has no tables that have an owner")
	}
	other := w.service("other").to(ready(w.RemotePods[0]))
	w.apply(t, other)
	trace, err := proxy.Start(w.process(append([]string{"trace", "--to", "test/late", "-o", "json", "--rules"}, from...)...))
	if err != nil {
		t.Fatal(err)
	}
	defer trace.Kill()
	eventually(t, "the trace begins", func() error {
		if !w.traced(t) {
			return fmt.Errorf("it has no table")
		}
		return nil
	})
	late := w.service("late").to(ready(w.RemotePods[1]))
	w.apply(t, late)
	client := traffic.Client{NS: w.Client.NS, Timeout: time.Second}
	to, endpoint := late.at(netns.IPv4, servicePort), netip.AddrPortFrom(w.RemotePods[1].V4, backendPort).String()
	eventually(t, "a story of the new Service", func() error {
		client.Connect(t.Context(), traffic.TCP, other.at(netns.IPv4, servicePort))
		client.Connect(t.Context(), traffic.TCP, to)
		if trace.Log() == "" {
			return fmt.Errorf("nothing is told")
		}
		return nil
	})
	for line := range strings.Lines(trace.Log()) {
		var got struct {
			Protocol, From, To, Service, Outcome, Endpoint, Text string
			Chains                                               []string
		}
		if err := json.Unmarshal([]byte(line), &got); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		if got.Service != "test/late" || got.Outcome != "answered" || got.To != to.String() || got.Protocol != "tcp" || got.Endpoint != endpoint || len(got.Chains) == 0 {
			t.Errorf("told is %s", line)
		}
	}
}
