// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/nftproxy/nftproxy/printable"
	"github.com/nftproxy/nftproxy/proxier"
	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/fate"
)

// clientPort is the port of clients: any will do.
const clientPort = 40000

// fate follows connections of a client to a frontend, once for each endpoint that may
// be chosen.
func (w *World) fate(p *proxier.Port, f FrontendView, c Client) (Fate, error) {
	out := Fate{From: printable.Line(c.Name)}
	choice, choices := uint32(0), uint32(1)
	tracer := fate.Tracer{State: w.traced(p), Local: w.Local, Forget: true, Choose: func(mod uint32) uint32 {
		choices = max(choices, mod)
		return choice
	}}
	packet := fate.Packet{Protocol: p.Protocol, Src: netip.AddrPortFrom(c.addr(p.Family), clientPort), Dst: f.at.At(), Interface: c.Interface}
	seen := map[To]bool{}
	for choice = 0; choice < choices; choice++ {
		end, err := tracer.Trace(packet, c.IsNode)
		if err != nil {
			return out, err
		}
		out.Outcome = outcome(end, f)
		out.Unheard = end.Rejected && p.Protocol == rules.SCTP && p.Family == rules.IPv6
		if out.Rules == nil {
			for _, step := range end.Steps {
				out.Rules = append(out.Rules, printable.Word(step.Chain)+": "+step.Rule.Text(p.Family))
			}
		}
		for _, why := range w.reasons(p, end, f, c) {
			if !slices.Contains(out.Why, why) {
				out.Why = append(out.Why, why)
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
	slices.SortFunc(out.To, func(a, b To) int {
		return netip.MustParseAddrPort(a.Address).Compare(netip.MustParseAddrPort(b.Address))
	})
	return out, nil
}

func outcome(end fate.Fate, f FrontendView) string {
	switch {
	case end.Rejected:
		return Refused
	case end.Dropped:
		return Timeout
	case end.To == f.at.At():
		return Untouched
	}
	return Answer
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

// reasons says why a packet ended so, by the rules that it met.
func (w *World) reasons(p *proxier.Port, end fate.Fate, f FrontendView, c Client) []string {
	var out []string
	for i, step := range end.Steps {
		for _, s := range step.Rule {
			if reason := w.reason(p, end, f, c, i, s); reason != "" {
				out = append(out, reason)
			}
		}
	}
	if len(end.Steps) == 0 || outcome(end, f) == Untouched {
		out = append(out, "no rule of nftproxy serves this address")
	}
	return out
}

// reason says why a statement of the i-th step did what it did.
func (w *World) reason(p *proxier.Port, end fate.Fate, f FrontendView, c Client, i int, s rules.Statement) string {
	step := end.Steps[i]
	switch s := s.(type) {
	case rules.SetMark:
		if end.Masqueraded {
			return w.whyMarked(step)
		}
	case rules.Masquerade:
		if setOf(step.Rule, rules.Hairpin) {
			return "masqueraded where an endpoint connects to itself: its answers would else not come back through this node"
		}
	case rules.Goto:
		if strings.HasPrefix(step.Chain, "external/") && len(step.Rule) > 1 {
			return "pods and the node itself reach all endpoints under externalTrafficPolicy Local, too"
		}
	case rules.DNATRemembered:
		return fmt.Sprintf("session affinity: %s stays with %s", c.addr(p.Family), end.To)
	case rules.DNAT: // as versions before this one wrote it
		if s.Map.Kind == rules.Affinity {
			return fmt.Sprintf("session affinity: %s stays with %s", c.addr(p.Family), end.To)
		}
	case rules.Forget:
		return fmt.Sprintf("session affinity: the endpoint that %s was with is gone; it stays with the next one that it gets", c.addr(p.Family))
	case rules.Drop:
		switch {
		case setOf(step.Rule, rules.Sources):
			return fmt.Sprintf("%s is not in loadBalancerSourceRanges (%s)", c.addr(p.Family), rangesText(p))
		case setOf(step.Rule, rules.ServiceCIDRs):
			return "no Service has this address of a ServiceCIDR"
		}
		return "the traffic policy is Local, and no endpoint on this node can be used"
	case rules.Reject, rules.Reset, rules.RejectProtocol:
		if i > 0 && setOf(end.Steps[i-1].Rule, rules.ClusterIPs) {
			return fmt.Sprintf("the Service has no port %d/%s", f.at.Port, p.Protocol)
		}
		return noEndpoints(p)
	}
	return ""
}

// whyMarked says why a rule marks connections to be masqueraded.
func (w *World) whyMarked(step fate.Step) string {
	switch {
	case setOf(step.Rule, rules.ClusterIPs) && w.Config.MasqueradeAll:
		return "masqueraded: --masquerade-all"
	case setOf(step.Rule, rules.ClusterIPs):
		return "masqueraded: a connection to a ClusterIP from outside the pod network"
	case slices.Contains(step.Rule, rules.Statement(rules.MatchLocalSource{})):
		return "masqueraded: it comes from the node itself"
	}
	return "masqueraded: under externalTrafficPolicy Cluster any node's endpoint may answer, and must do so through this node"
}

// setOf says whether a rule matches a set of some kind.
func setOf(r rules.Rule, k rules.SetKind) bool {
	return slices.ContainsFunc(r, func(s rules.Statement) bool {
		m, ok := s.(rules.MatchSet)
		return ok && m.Set.Kind == k
	})
}

func rangesText(p *proxier.Port) string {
	var out []string
	for _, r := range p.SourceRanges {
		out = append(out, r.String())
	}
	const most = 4
	if len(out) > most {
		out = append(out[:most], fmt.Sprintf("and %d more", len(out)-most))
	}
	return strings.Join(out, ", ")
}

func noEndpoints(p *proxier.Port) string {
	switch n := len(p.Endpoints); n {
	case 0:
		return "there is no endpoint"
	case 1:
		return "the only endpoint cannot be used"
	default:
		return fmt.Sprintf("none of the %d endpoints can be used", n)
	}
}
