// SPDX-License-Identifier: Apache-2.0

//go:build linux

package packets

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/traffic"
)

// expected is what should become of new connections to a port of a service.
type expected struct {
	outcome  traffic.Outcome
	backends []backend // who answers, each in turn
	sees     source
}

// backend is a host that answers at a port.
type backend struct {
	netns.Host
	port uint16
}

// source is whom a backend sees.
type source int

const (
	// asClusterIP is what holds for ClusterIPs: a pod is seen as itself; the node,
	// what is outside, and a pod that reaches itself are seen as the node.
	asClusterIP source = iota
	asItself           // the client's own address and port
	asNode             // the node's address on the way to the backend
	anySource          // whomever
)

// spread: the hosts answer, each in turn.
func spread(hosts ...netns.Host) expected {
	return expected{outcome: traffic.Answered}.and(backendPort, hosts...)
}

// refused: the client is told at once that nobody answers, if its protocol can be told.
func refused() expected { return expected{outcome: traffic.Refused} }

// dropped: the client hears nothing.
func dropped() expected { return expected{outcome: traffic.TimedOut} }

// on says at which port the backends answer.
func (f expected) on(port uint16) expected {
	f.backends = slices.Clone(f.backends)
	for i := range f.backends {
		f.backends[i].port = port
	}
	return f
}

// and adds backends that answer at a port.
func (f expected) and(port uint16, hosts ...netns.Host) expected {
	f.backends = slices.Clone(f.backends)
	for _, h := range hosts {
		f.backends = append(f.backends, backend{h, port})
	}
	return f
}

// seen says whom the backends see.
func (f expected) seen(s source) expected {
	f.sees = s
	return f
}

// addresses returns the backends' addresses in a family.
func (f expected) addresses(family netns.Family) []netip.AddrPort {
	var list []netip.AddrPort
	for _, b := range f.backends {
		list = append(list, netip.AddrPortFrom(b.Addr(family), b.port))
	}
	return list
}

// dropTimeout is how long silence must last to be called so.
const dropTimeout = 100 * time.Millisecond

// rounds is how often each backend is to answer.
const rounds = 2

// each runs a subtest for every protocol over every family.
func each(t *testing.T, test func(t *testing.T, p traffic.Protocol, f netns.Family)) {
	t.Helper()
	for _, p := range traffic.Protocols() {
		for _, f := range netns.Families() {
			t.Run(p.String()+" "+f.String(), func(t *testing.T) { test(t, p, f) })
		}
	}
}

// wantEverywhere checks the outcome of connections to the service's servicePort in
// every protocol over every family from every client.
func (w *world) wantEverywhere(t *testing.T, s *svc, want expected) {
	t.Helper()
	for _, p := range traffic.Protocols() {
		for _, f := range netns.Families() {
			for _, from := range w.clients() {
				w.want(t, from, p, s.at(f, servicePort), want)
			}
		}
	}
}

// want checks the outcome of connections from a host to an address.
func (w *world) want(t *testing.T, from netns.Host, p traffic.Protocol, to netip.AddrPort, want expected) {
	t.Helper()
	if err := w.check(t.Context(), from, p, to, want); err != nil {
		t.Errorf("from %s to %s %s: %v", from.Name(), p, to, err)
	}
}

// check makes as many connections as it takes to tell their outcome. On a machine with much else to do a packet gets lost, or takes
// longer than TCP waits before it sends its SYN again: so who was not answered asks again. Who never would be still is not.
func (w *world) check(ctx context.Context, from netns.Host, p traffic.Protocol, to netip.AddrPort, want expected) error {
	err := w.checkOnce(ctx, from, p, to, want)
	for try := 1; try < 3 && errors.Is(err, errLost) && ctx.Err() == nil; try++ {
		err = w.checkOnce(ctx, from, p, to, want)
	}
	return err
}

// errLost says that a packet that was to be answered was not, or late.
var errLost = errors.New("not answered in time")

func (w *world) checkOnce(ctx context.Context, from netns.Host, p traffic.Protocol, to netip.AddrPort, want expected) error {
	client := traffic.Client{NS: from.NS}
	if want.outcome == traffic.Refused {
		want.outcome = traffic.Refusal(p, to.Addr())
	}
	if want.outcome != traffic.Answered {
		if want.outcome == traffic.TimedOut {
			client.Timeout = dropTimeout
		}
		r := client.Connect(ctx, p, to)
		switch {
		case r.Outcome == want.outcome:
			return nil
		case r.Outcome == traffic.TimedOut:
			return fmt.Errorf("%w: %s, want %s by the first packet", errLost, r, want.outcome)
		}
		return fmt.Errorf("%s, want %s by the first packet", r, want.outcome)
	}
	family := familyOf(to.Addr())
	results := connect(ctx, client, p, to, rounds*len(want.backends))
	if err := inTurn(results, want.addresses(family)); err != nil {
		return err
	}
	for _, r := range results {
		if err := w.checkSource(from, r, want.sees); err != nil {
			return err
		}
	}
	return nil
}

// checkSource checks whom the backend saw.
func (w *world) checkSource(from netns.Host, r traffic.Result, s source) error {
	family := familyOf(r.Backend.Addr())
	if s == anySource {
		return nil
	}
	if s == asClusterIP {
		s = asItself
		if isPod := from.NS != w.Node.NS && from.NS != w.Outside.NS; !isPod || r.Backend.Addr() == from.Addr(family) {
			s = asNode
		}
	}
	if s == asNode {
		if want := w.nodeAddress(r.Backend.Addr()); r.Peer.Addr() != want {
			return fmt.Errorf("backend %s saw %s, want the node's %s", r.Backend, r.Peer, want)
		}
		return nil
	}
	if r.Peer != r.Local {
		return fmt.Errorf("backend %s saw %s, want the client's own %s", r.Backend, r.Peer, r.Local)
	}
	return nil
}

// nodeAddress returns the address that the node has towards a backend: on the
// links of its pods the first of their range.
func (w *world) nodeAddress(backend netip.Addr) netip.Addr {
	for _, cidr := range []string{netns.PodCIDR4, netns.PodCIDR6} {
		if pods := netip.MustParsePrefix(cidr); pods.Contains(backend) {
			return pods.Addr().Next()
		}
	}
	return w.Node.Addr(familyOf(backend))
}

// connect makes n connections, one after the other.
func connect(ctx context.Context, c traffic.Client, p traffic.Protocol, to netip.AddrPort, n int) []traffic.Result {
	var results []traffic.Result
	for range n {
		results = append(results, c.Connect(ctx, p, to))
		if results[len(results)-1].Outcome == traffic.TimedOut {
			break // the others would take as long
		}
	}
	return results
}

// inTurn returns nil if all were answered, by each of the backends in turn: any
// len(backends) answers in a row come from all of them. The results are those of
// connections made one after the other, the first one to whoever's turn it was.
func inTurn(results []traffic.Result, backends []netip.AddrPort) error {
	n := len(backends)
	for i, r := range results {
		switch {
		case r.Outcome == traffic.TimedOut:
			return fmt.Errorf("%w: connection %d: %s", errLost, i, r)
		case r.Outcome != traffic.Answered:
			return fmt.Errorf("connection %d: %s", i, r)
		case !slices.Contains(backends, r.Backend):
			return fmt.Errorf("connection %d: answered by %s, want one of %s", i, r.Backend, backends)
		case i >= n && r.Backend != results[i-n].Backend:
			return fmt.Errorf("connection %d: answered by %s, want %s, whose turn it was: %s", i, r.Backend, results[i-n].Backend, order(results[:i+1]))
		case i < n && slices.ContainsFunc(results[:i], func(o traffic.Result) bool { return o.Backend == r.Backend }):
			return fmt.Errorf("connection %d: answered by %s a second time: %s", i, r.Backend, order(results[:i+1]))
		}
	}
	if n == 0 {
		return errors.New("round robin over no backends")
	}
	return nil
}

func order(results []traffic.Result) []netip.AddrPort {
	var list []netip.AddrPort
	for _, r := range results {
		list = append(list, r.Backend)
	}
	return list
}

func familyOf(a netip.Addr) netns.Family {
	if a.Is6() {
		return netns.IPv6
	}
	return netns.IPv4
}
