// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/nftproxy/nftproxy/proxier"
	"github.com/nftproxy/nftproxy/reason"
	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/tracer"
)

// ending is the end of a connection's first packet, with what its reasons are about.
type ending struct {
	tracer.Result
	port     *proxier.Port
	frontend FrontendView
	client   netip.Addr
	// noEndpoint is why a port without endpoints has none.
	noEndpoint reason.Given
	// masqueradeAll says that --masquerade-all is given.
	masqueradeAll bool
}

// outcome returns what the client sees.
func (e *ending) outcome() Outcome {
	switch {
	case e.Rejected:
		return Refused
	case e.Dropped:
		return Timeout
	case e.To == e.frontend.at.At():
		return Untouched
	}
	return Answer
}

// reasons says why the packet ended so, by the rules that it met.
func (e *ending) reasons() []reason.Given {
	var out []reason.Given
	for i, step := range e.Steps {
		for _, s := range step.Rule {
			if why := e.reason(i, s); why.Code != 0 {
				out = append(out, why)
			}
		}
	}
	if len(e.Steps) == 0 || e.outcome() == Untouched {
		out = append(out, reason.NotServed.With())
	}
	return out
}

// reason says why a statement of the i-th step did what it did; nothing where that needs no reason.
func (e *ending) reason(i int, s rules.Statement) reason.Given {
	step := e.Steps[i]
	switch s := s.(type) {
	case rules.SetMark:
		if e.Masqueraded {
			return e.whyMarked(step).With()
		}
	case rules.Masquerade:
		if setOf(step.Rule, rules.Hairpin) {
			return reason.MasqueradeHairpin.With()
		}
	case rules.Goto:
		if rules.ParseChainID(step.Chain).Role == rules.ChainExternal && len(step.Rule) > 1 {
			return reason.ExternalFromInside.With()
		}
	case rules.DNATRemembered:
		return reason.Remembered.With(e.client, e.To)
	case rules.DNAT: // as versions before this one wrote it
		if s.Map.Kind == rules.Affinity {
			return reason.Remembered.With(e.client, e.To)
		}
	case rules.Forget:
		return reason.EndpointGone.With(e.client)
	case rules.Drop:
		switch {
		case setOf(step.Rule, rules.Sources):
			return e.byRanges(step.Rule)
		case setOf(step.Rule, rules.ServiceCIDRs):
			return reason.NoSuchClusterIP.With()
		}
		return reason.NoLocalEndpoint.With()
	case rules.Reject, rules.Reset, rules.RejectProtocol:
		if i > 0 && setOf(e.Steps[i-1].Rule, rules.ClusterIPs) {
			return reason.NoSuchPort.With(e.frontend.at.Port, e.port.Protocol)
		}
		return e.noEndpoint
	}
	return reason.Given{}
}

// byRanges says that a rule drops the client because it is in none of the Service's ranges, or in one of those that may not
// connect. The kernel's rules alone do not tell which the Service has.
func (e *ending) byRanges(r rules.Rule) reason.Given {
	why := reason.InDeniedRanges
	if slices.ContainsFunc(r, func(s rules.Statement) bool { m, ok := s.(rules.MatchSet); return ok && m.Not }) {
		why = reason.NotInSourceRanges
	}
	if len(e.port.SourceRanges) == 0 {
		return reason.Given{Code: why, Text: why.Brief()}
	}
	return why.With(e.client, rangesText(e.port))
}

// whyMarked says why a rule marks connections to be masqueraded.
func (e *ending) whyMarked(step tracer.Step) reason.Code {
	switch {
	case setOf(step.Rule, rules.ClusterIPs) && e.masqueradeAll:
		return reason.MasqueradeAll
	case setOf(step.Rule, rules.ClusterIPs):
		return reason.MasqueradeOutside
	case slices.Contains(step.Rule, rules.Statement(rules.MatchLocalSource{})):
		return reason.MasqueradeNode
	}
	return reason.MasqueradeExternal
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
