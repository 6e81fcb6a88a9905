// SPDX-License-Identifier: Apache-2.0

//go:build linux

package packets

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/traffic"
)

// A client that goes on sending from one socket is served by an endpoint that is
// there, whatever happened to the one that it had: without help the kernel would
// send its packets to where the first one went.
func TestStaleFlows(t *testing.T) {
	t.Parallel()
	w := newWorld(t, config{})
	a, b, c := w.Local[0], w.RemotePods[0], w.RemotePods[1]
	bystanders := w.flows(t, w.applied(t, w.service("bystander").to(ready(a, b, c))), datagrams(), []traffic.Protocol{traffic.TCP})
	for _, e := range bystanders {
		e.ask(t)
	}
	rows := []struct {
		name          string
		before, after []endpoint
		had, has      expected
		sctp          expected // what SCTP has, if that is something else
	}{
		{"the only endpoint goes, another one comes", ready(a), ready(b), spread(a), spread(b), expected{}},
		{"one of two goes", ready(a, b), ready(b), spread(a, b), spread(b), expected{}},
		{"one of three goes", ready(a, b, c), ready(a, b), spread(a, b, c), spread(a, b), expected{}},
		// Answered associations are as TCP's connections: they stay.
		{"not ready any more", ready(a), append(unready(a), ready(c)...), spread(a), spread(c), spread(a)},
		{"ending", ready(a), append(ending(a), ready(c)...), spread(a), spread(c), spread(a)},
		{"the only one not ready any more", ready(a), unready(a), spread(a), refused(), spread(a)},
		{"the last endpoint goes", ready(a), nil, spread(a), refused(), expected{}},
		{"the first endpoint comes", nil, ready(a, b), refused(), spread(a, b), expected{}},
		{"an endpoint comes", ready(a), ready(a, b), spread(a), spread(a), expected{}}, // flows stay with the one they have
	}
	services := make([]*svc, len(rows))
	for i, r := range rows {
		services[i] = w.service(fmt.Sprintf("row-%d", i)).to(r.before)
	}
	w.apply(t, services...)
	for i, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			flows := w.flows(t, services[i], datagrams())
			has := map[*established]expected{}
			for n, e := range flows {
				first := e.askFirst(t, r.had)
				e.backend, has[e] = first.Backend, r.has
				if sctp := n >= len(flows)/2; sctp && r.sctp.outcome != 0 {
					has[e] = r.sctp
				}
			}
			w.apply(t, services[i].to(r.after))
			// When those that had to move have, the clean-up has come to all of them.
			var stayed []*established
			for _, e := range flows {
				if e.backend.IsValid() && slices.Contains(has[e].addresses(familyOf(e.backend.Addr())), e.backend) {
					stayed = append(stayed, e)
					continue
				}
				wantServed(t, e, has[e])
			}
			for _, e := range stayed {
				if e.ask(t); e.err != nil {
					t.Errorf("its endpoint is still there: %v", e.err)
				}
			}
			for _, e := range bystanders {
				if e.ask(t); e.err != nil {
					t.Errorf("a flow of another service: %v", e.err)
				}
			}
		})
	}
	t.Run("the service goes", func(t *testing.T) {
		s := w.applied(t, w.service("going").to(ready(a)))
		flows := w.flows(t, s, datagrams())
		for _, e := range flows {
			if r := e.Ask(t.Context()); r.Outcome != traffic.Answered {
				t.Fatalf("%s: %s", e.name, r)
			}
		}
		w.remove(t, s)
		for _, e := range flows {
			wantServed(t, e, dropped())
		}
	})
}

// Flows that began before their service was there led nowhere; when it comes, they
// lead to it.
func TestFlowsOlderThanTheirService(t *testing.T) {
	t.Parallel()
	w := newWorld(t, config{})
	s := w.service("late").to(ready(w.Local[0], w.RemotePods[0]))
	flows := w.flows(t, s, []traffic.Protocol{traffic.UDP})
	for _, e := range flows {
		if r := e.askSoon(t); r.Outcome != traffic.TimedOut {
			t.Fatalf("%s: %s, want timed out", e.name, r)
		}
	}
	w.apply(t, s)
	for _, e := range flows {
		wantServed(t, e, spread(w.Local[0], w.RemotePods[0]))
	}
}

// The same at a service's other addresses, under both policies.
func TestStaleFlowsFromOutside(t *testing.T) {
	t.Parallel()
	w := newWorld(t, config{args: []string{"--node-ip", "172.18.0.2,fd00:172:18::2"}})
	a, b := w.Local[0], w.Local[1]
	for _, policy := range []struct {
		name   string
		option option
	}{{"Cluster", func(*corev1.Service) {}}, {"Local", externalLocal}} {
		s := w.applied(t, w.full("policy-"+nameOf(policy.name), policy.option).to(ready(a)))
		bystander := w.applied(t, w.full("bystander-"+nameOf(policy.name), policy.option).to(ready(a, b)))
		all := func(s *svc) []*established {
			var list []*established
			for _, fe := range external {
				for _, p := range datagrams() {
					for _, f := range netns.Families() {
						for _, from := range w.clients() {
							e := establish(t, from, p, w.address(s, fe, p, f))
							e.ask(t)
							list = append(list, e)
						}
					}
				}
			}
			return list
		}
		moving, staying := all(s), all(bystander)
		w.apply(t, s.to(ready(b)))
		for _, e := range moving {
			wantServed(t, e, spread(b))
		}
		for _, e := range staying {
			if e.ask(t); e.err != nil {
				t.Errorf("policy %s: a flow of another service: %v", policy.name, e.err)
			}
		}
	}
}

// A TCP connection that was dialled before there were rules, on a node that boots,
// reaches an endpoint once there are: the client sends its SYN again.
func TestConnectionsOlderThanTheRules(t *testing.T) {
	t.Parallel()
	w := newWorld(t, config{})
	s := w.applied(t, w.service("web").to(ready(w.Local[0])))
	w.stop(t)
	w.run(t, "cleanup")
	w.trackConnections(t)
	w.loseServices(t)
	results := w.dial(t, s, w.Client, w.Node)
	w.start(t)
	results.want(t, w.Local[0])
}

// The same with rules, but before there was the service.
func TestConnectionsOlderThanTheirService(t *testing.T) {
	t.Parallel()
	w := newWorld(t, config{})
	w.loseServices(t)
	s := w.service("late").to(ready(w.Local[0]))
	results := w.dial(t, s, w.Client, w.Node)
	w.apply(t, s)
	results.want(t, w.Local[0])
}

// trackConnections has the node track connections without nftproxy, as the rules of a CNI
// plugin do.
func (w *world) trackConnections(t *testing.T) {
	t.Helper()
	conn := w.nft(t)
	another := conn.AddTable(&nftables.Table{Name: "another", Family: nftables.TableFamilyINet})
	chain := conn.AddChain(&nftables.Chain{Name: "postrouting", Table: another, Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource})
	conn.AddRule(&nftables.Rule{Table: another, Chain: chain, Exprs: []expr.Any{&expr.Ct{Register: 1, Key: expr.CtKeySTATE}}})
	if err := conn.Flush(); err != nil {
		t.Fatal(err)
	}
}

// loseServices makes outside drop in silence what is sent to a ClusterIP untranslated.
func (w *world) loseServices(t *testing.T) {
	t.Helper()
	h, err := w.Outside.Netlink()
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	for _, s := range []string{netns.ServiceCIDR4, netns.ServiceCIDR6} {
		to, err := netlink.ParseIPNet(s)
		if err == nil {
			err = h.RouteReplace(&netlink.Route{Dst: to, Type: unix.RTN_BLACKHOLE})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// dialled are the results of connections that are on their way.
type dialled struct {
	results chan traffic.Result
	waiting int
}

// dial connects from hosts in both families, and waits until the node has seen all SYNs.
func (w *world) dial(t *testing.T, s *svc, hosts ...netns.Host) *dialled {
	t.Helper()
	var ways []way
	for _, f := range netns.Families() {
		for _, from := range hosts {
			ways = append(ways, way{from, s.at(f, servicePort)})
		}
	}
	return &dialled{w.dialAll(t, ways), len(ways)}
}

// way is where a connection begins and where it is sent.
type way struct {
	from netns.Host
	to   netip.AddrPort
}

// dialAll connects all ways, and returns the results to come when the node has seen all SYNs.
func (w *world) dialAll(t *testing.T, ways []way) chan traffic.Result {
	t.Helper()
	results := make(chan traffic.Result, len(ways))
	to := map[netip.AddrPort]bool{}
	for _, way := range ways {
		to[way.to] = true
		go func() {
			results <- traffic.Client{NS: way.from.NS, Timeout: patience}.Connect(t.Context(), traffic.TCP, way.to)
		}()
	}
	eventually(t, "the node seeing all SYNs", func() error {
		seen := 0
		for _, flow := range w.tracked(t) {
			if flow.Forward.Protocol == uint8(traffic.TCP) && to[dialledAt(flow)] && flow.Reverse.Packets == 0 {
				seen++
			}
		}
		if seen < len(ways) {
			return fmt.Errorf("it has seen %d of %d", seen, len(ways))
		}
		return nil
	})
	return results
}

// tracked lists the node's conntrack entries.
func (w *world) tracked(t *testing.T) []*netlink.ConntrackFlow {
	t.Helper()
	var all []*netlink.ConntrackFlow
	for _, family := range []netlink.InetFamily{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		err := w.Node.Do(func() error {
			flows, err := netlink.ConntrackTableList(netlink.ConntrackTable, family)
			all = append(all, flows...)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// trackedText shows some of the node's connections.
func (w *world) trackedText(t *testing.T) string {
	t.Helper()
	const most = 100
	var lines []string
	for _, flow := range w.tracked(t) {
		if !flow.Forward.DstIP.IsLoopback() { // the test's own questions
			lines = append(lines, flow.String())
		}
	}
	return strings.Join(lines[:min(most, len(lines))], "\n")
}

// neighboursText lists the neighbours of all hosts that are not known to be there: packets to them wait or get lost.
func (w *world) neighboursText(t *testing.T) string {
	t.Helper()
	var lines []string
	for _, ns := range w.Namespaces() {
		handle, err := ns.Netlink()
		if err != nil {
			t.Error(err)
			continue
		}
		list, err := handle.NeighList(0, netlink.FAMILY_ALL)
		handle.Close()
		if err != nil {
			t.Error(err)
		}
		for _, n := range list {
			if n.State&(netlink.NUD_INCOMPLETE|netlink.NUD_FAILED|netlink.NUD_PROBE) != 0 {
				lines = append(lines, fmt.Sprintf("%s: %s (state %#x)", ns.Name(), n.IP, n.State))
			}
		}
	}
	return strings.Join(lines, "\n")
}

// dialledAt returns where a connection was sent.
func dialledAt(flow *netlink.ConntrackFlow) netip.AddrPort {
	return addrPort(flow.Forward.DstIP, flow.Forward.DstPort)
}

// answersFrom returns where its answers come from.
func answersFrom(flow *netlink.ConntrackFlow) netip.AddrPort {
	return addrPort(flow.Reverse.SrcIP, flow.Reverse.SrcPort)
}

func addrPort(ip net.IP, port uint16) netip.AddrPort {
	a, _ := netip.AddrFromSlice(ip)
	return netip.AddrPortFrom(a.Unmap(), port)
}

// want waits for all, which the endpoint is to have answered.
func (d *dialled) want(t *testing.T, endpoint netns.Host) {
	t.Helper()
	for range d.waiting {
		if err := spread(endpoint).oneOf(<-d.results); err != nil {
			t.Error(err)
		}
	}
}

// Established TCP connections stay with the endpoint that they have, for as long as
// it serves them.
func TestEstablishedConnectionsStay(t *testing.T) {
	t.Parallel()
	w := newWorld(t, config{})
	s := w.applied(t, w.service("web").to(ready(w.Local[0])))
	conns := w.flows(t, s, []traffic.Protocol{traffic.TCP})
	for _, has := range [][]endpoint{ready(w.Local[0]), ready(w.RemotePods[0]), draining(w.Local[0]), nil} {
		w.apply(t, s.to(has))
		for _, e := range conns {
			if e.ask(t); e.err != nil {
				t.Errorf("with %d endpoints: %v", len(has), e.err)
			}
		}
	}
	w.remove(t, s)
	for _, e := range conns {
		if e.ask(t); e.err != nil {
			t.Errorf("without the service: %v", e.err)
		}
	}
}

// datagrams are the protocols whose flows nobody but nftproxy ends.
func datagrams() []traffic.Protocol { return []traffic.Protocol{traffic.UDP, traffic.SCTP} }

// applied applies a service and returns it.
func (w *world) applied(t *testing.T, s *svc) *svc {
	t.Helper()
	w.apply(t, s)
	return s
}

// flows opens a socket from every client to the service in each protocol and family.
func (w *world) flows(t *testing.T, s *svc, protocols ...[]traffic.Protocol) []*established {
	t.Helper()
	var list []*established
	for _, p := range slices.Concat(protocols...) {
		for _, f := range netns.Families() {
			for _, from := range w.clients() {
				list = append(list, establish(t, from, p, s.at(f, servicePort)))
			}
		}
	}
	return list
}

// askFirst asks once, to have an outcome.
func (e *established) askFirst(t *testing.T, want expected) traffic.Result {
	t.Helper()
	wait := patience
	if want.outcome == traffic.Refused {
		if want.outcome = traffic.Refusal(e.protocol, e.to.Addr()); want.outcome == traffic.TimedOut {
			wait = dropTimeout
		}
	}
	r := e.askFor(t, wait)
	if err := want.oneOf(r); err != nil {
		t.Fatalf("%s: before: %v", e.name, err)
	}
	return r
}

// oneOf returns nil if the result of one request is as expected.
func (f expected) oneOf(r traffic.Result) error {
	if r.Outcome != f.outcome {
		return fmt.Errorf("%s, want %s", r, f.outcome)
	}
	if r.Outcome != traffic.Answered {
		return nil
	}
	if backends := f.addresses(familyOf(r.Backend.Addr())); !slices.Contains(backends, r.Backend) {
		return fmt.Errorf("answered by %s, want one of %s", r.Backend, backends)
	}
	return nil
}

// wantServed waits until the socket is served as expected.
func wantServed(t *testing.T, e *established, want expected) {
	t.Helper()
	if want.outcome == traffic.Refused {
		want.outcome = traffic.Refusal(e.protocol, e.to.Addr())
	}
	try := longer(t)
	eventually(t, e.name, func() error { return want.oneOf(e.Ask(try())) })
}

// TestStaleFlowsOfARestart: endpoints that went while nftproxy was down lose their flows.
func TestStaleFlowsOfARestart(t *testing.T) {
	t.Parallel()
	w := newWorld(t, config{})
	a, b := w.Local[0], w.RemotePods[0]
	s := w.applied(t, w.service("dns").to(ready(a)))
	flows := w.flows(t, s, datagrams())
	for _, e := range flows {
		e.ask(t)
	}
	w.stop(t)
	w.put(t, s.to(ready(b)).objects()...)
	w.start(t)
	for _, e := range flows {
		wantServed(t, e, spread(b))
	}
}

// TestFlowsToADrainingEndpointStay: it gets no new flows while another is ready, and
// keeps those that it has until it is gone.
func TestFlowsToADrainingEndpointStay(t *testing.T) {
	t.Parallel()
	w := newWorld(t, config{})
	a, b := w.Local[0], w.RemotePods[0]
	s := w.applied(t, w.service("dns").to(ready(a)))
	flows := w.flows(t, s, datagrams())
	for _, e := range flows {
		e.ask(t)
	}
	w.apply(t, s.to(append(draining(a), ready(b)...)))
	// Another service's stale flow is deleted after that, so the cleaner has been here.
	other := w.applied(t, w.service("other").to(ready(a)))
	others := w.flows(t, other, datagrams())
	for _, e := range others {
		e.ask(t)
	}
	w.apply(t, other.to(ready(b)))
	for _, e := range others {
		wantServed(t, e, spread(b))
	}
	for _, e := range flows {
		if e.ask(t); e.err != nil {
			t.Errorf("%s: %v", e.name, e.err)
		}
	}
	w.apply(t, s.to(ready(b)))
	for _, e := range flows {
		wantServed(t, e, spread(b))
	}
}
