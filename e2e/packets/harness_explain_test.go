// SPDX-License-Identifier: Apache-2.0

//go:build linux

package packets

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/explain"
	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/traffic"
)

// explained is what `nftproxy explain` says of a service to all clients.
type explained struct{ explain.Explanation }

// explain asks the program, as it runs on the node, what becomes of connections to a
// service, from hosts or else from every kind of client.
func (w *world) explain(t *testing.T, s *svc, from ...netns.Host) explained {
	t.Helper()
	args := append([]string{"explain", s.Namespace + "/" + s.Name, "-o", "json"}, w.args[1:]...)
	if len(from) == 0 {
		from = w.clients()
	}
	for _, c := range from {
		for _, f := range netns.Families() {
			args = append(args, "--from", c.Addr(f).String())
		}
	}
	var e explained
	text := w.run(t, args...)
	if err := json.Unmarshal([]byte(text), &e.Explanation); err != nil {
		t.Fatalf("explain wrote no JSON: %v\n%s", err, text)
	}
	return e
}

// client returns what is said of connections from a client to an address; false if
// nothing is said of that address.
func (e explained) client(from netip.Addr, p traffic.Protocol, to netip.AddrPort) (explain.ClientView, bool) {
	for _, port := range e.Ports {
		for _, fe := range port.Frontends {
			if port.Protocol != strings.ToLower(p.String()) || fe.Address != to.String() {
				continue
			}
			for _, f := range fe.Clients {
				if f.From == from.String() {
					return f, true
				}
			}
		}
	}
	return explain.ClientView{}, false
}

// check compares what is said with what was seen of packets.
func (e explained) check(w *world, from netns.Host, p traffic.Protocol, to netip.AddrPort, seen expected) error {
	family := familyOf(to.Addr())
	said, ok := e.client(from.Addr(family), p, to)
	if !ok {
		// An address that is not served is nobody's in this network.
		if seen.outcome == traffic.TimedOut {
			return nil
		}
		return fmt.Errorf("explain says nothing of %s", to)
	}
	want := map[traffic.Outcome]explain.Outcome{traffic.Answered: explain.Answer, traffic.Refused: explain.Refused, traffic.TimedOut: explain.Timeout}[seen.outcome]
	if said.Outcome != want {
		return fmt.Errorf("explain says %q, packets say %q", said.Outcome, want)
	}
	if unheard := want == explain.Refused && p == traffic.SCTP && family == netns.IPv6; said.Unheard != unheard {
		return fmt.Errorf("explain says of a refusal that it is unheard: %t, want %t", said.Unheard, unheard)
	}
	if want != explain.Answer && len(said.Why) == 0 {
		return fmt.Errorf("explain does not say why it is %s", want)
	}
	var backends []string
	for _, a := range seen.addresses(family) {
		backends = append(backends, a.String())
	}
	var saidTo []string
	for _, to := range said.To {
		saidTo = append(saidTo, to.Address)
		if err := w.checkSaidSource(from, to, seen.sees); err != nil {
			return err
		}
	}
	slices.Sort(backends)
	slices.Sort(saidTo)
	if !slices.Equal(backends, saidTo) {
		return fmt.Errorf("explain says answers come from %s, they come from %s", saidTo, backends)
	}
	return nil
}

// wantSaid checks what is said of connections from a host to an address.
func (w *world) wantSaid(t *testing.T, said explained, from netns.Host, p traffic.Protocol, to netip.AddrPort, want expected) {
	t.Helper()
	if err := said.check(w, from, p, to, want); err != nil {
		t.Errorf("from %s to %s %s: %v", from.Name(), p, to, err)
	}
}

// checkSaidSource compares whether connections are said to be masqueraded with whom
// the backend saw.
func (w *world) checkSaidSource(from netns.Host, to explain.To, s source) error {
	backend := netip.MustParseAddrPort(to.Address).Addr()
	if s == asClusterIP {
		s = asItself
		if isPod := from.NS != w.Node.NS && from.NS != w.Outside.NS; !isPod || backend == from.Addr(familyOf(backend)) {
			s = asNode
		}
	}
	if onNode := from.NS == w.Node.NS && backend == w.Node.Addr(familyOf(backend)); onNode {
		return nil // the node is seen in either case
	}
	if s != anySource && to.Masqueraded != (s == asNode) {
		return fmt.Errorf("explain says masqueraded %v on the way to %s, which packets contradict", to.Masqueraded, to.Address)
	}
	return nil
}
