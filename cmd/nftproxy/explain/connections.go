// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"net/netip"
	"slices"

	"github.com/nftproxy/nftproxy/printable"
	"github.com/nftproxy/nftproxy/proxier"
	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/tracer"
)

// clientPort is the port of clients: any will do.
const clientPort = 40000

// follow follows connections of a client to a frontend, once for each endpoint that may be chosen.
func (w *World) follow(p *proxier.Port, f FrontendView, c Client) (ClientView, error) {
	out := ClientView{From: printable.Line(c.Name)}
	choice, most, choices := uint32(0), uint32(1), p.Objects.Choices()
	packets := tracer.Tracer{State: w.traced(p), Local: w.Local, Forget: true, Choose: func(mod uint32) uint32 {
		most = max(most, mod)
		return choice
	}}
	packet := tracer.Packet{Protocol: p.Protocol, Src: netip.AddrPortFrom(c.addr(p.Family), clientPort), Dst: f.at.At(), Interface: c.Interface}
	seen := map[To]bool{}
	for i := uint32(0); i < most; i++ {
		if choice = i; len(choices) > 0 {
			if int(i) == len(choices) {
				break
			}
			choice = choices[i]
		}
		end, err := packets.Trace(packet, c.IsNode)
		if err != nil {
			return out, err
		}
		e := ending{Result: end, port: p, frontend: f, client: c.addr(p.Family), noEndpoint: noEndpoint(w.Slices, p), masqueradeAll: w.Config.MasqueradeAll}
		out.Outcome = e.outcome()
		out.Unheard = end.Rejected && p.Protocol == rules.SCTP && p.Family == rules.IPv6
		if out.Rules == nil {
			for _, step := range end.Steps {
				out.Rules = append(out.Rules, printable.Word(step.Chain)+": "+step.Rule.Text(p.Family))
			}
		}
		for _, why := range e.reasons() {
			if !slices.Contains(out.Why, why.Text) {
				out.Why, out.Codes = append(out.Why, why.Text), append(out.Codes, why.Code)
			}
		}
		if out.Outcome != Answer {
			return out, nil
		}
		to := To{Address: end.To.String(), Masqueraded: end.Masqueraded}
		if !seen[to] {
			seen[to] = true
			out.To = append(out.To, to)
		}
	}
	hidden := slices.ContainsFunc(out.To, func(to To) bool { return to.Masqueraded })
	out.MayBeMasqueraded = w.PodsUnknown && !hidden && f.at.Addr == p.ClusterIP && !isEndpoint(p, c.addr(p.Family))
	slices.SortFunc(out.To, func(a, b To) int {
		return netip.MustParseAddrPort(a.Address).Compare(netip.MustParseAddrPort(b.Address))
	})
	return out, nil
}

// traced returns the state that packets are followed through: what should be, with
// the clients that the kernel remembers for a port.
func (w *World) traced(p *proxier.Port) rules.State {
	if w.FromKernel {
		return *w.Have
	}
	if w.Have == nil || w.Have.Tables[p.Family] == nil || len(p.Objects.Affinity) == 0 {
		return w.State
	}
	s := w.State.Clone()
	for _, m := range p.Objects.Affinity {
		if clients, ok := w.Have.Tables[p.Family].Sets[m.Set]; ok {
			s.Tables[p.Family].Sets[m.Set] = clients
		}
	}
	return s
}

// isEndpoint says whether a client is an endpoint, and so a pod, of a port.
func isEndpoint(p *proxier.Port, client netip.Addr) bool {
	return slices.ContainsFunc(p.Endpoints, func(e rules.Endpoint) bool { return e.Addr.Addr() == client })
}

// FrontendAt is a frontend: its kind, such as ClusterIP, and where clients connect to.
type FrontendAt struct {
	Kind string
	rules.Frontend
}

// FrontendsAt returns where clients connect to a port.
func FrontendsAt(w *World, p *proxier.Port) []FrontendAt {
	var out []FrontendAt
	for _, f := range w.frontends(p, Target{}) {
		if f.Problem == "" {
			out = append(out, FrontendAt{f.Kind, f.at})
		}
	}
	return out
}

// Connect says what becomes of a client's connections to an address. p is the port that is served there; nil: none is.
func Connect(w *World, p *proxier.Port, to rules.Frontend, c Client) (ClientView, error) {
	if p == nil {
		p = &proxier.Port{ServicePort: rules.ServicePort{Family: rules.FamilyOf(to.Addr), Protocol: to.Protocol, Port: to.Port}}
	}
	return w.follow(p, FrontendView{Kind: "address", Address: to.At().String(), at: to}, c)
}

// ClientsOf returns a client of each kind that can connect to a port.
func ClientsOf(w *World, p *proxier.Port) []Client { return w.clientsOf(p, nil) }
