// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/nftproxy/nftproxy/proxier"
	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/fate"
)

// ending is the end of a connection's first packet, with what its reasons are about.
type ending struct {
	fate.Fate
	port     *proxier.Port
	frontend FrontendView
	client   netip.Addr
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
func (e *ending) reasons() []string {
	var out []string
	for i, step := range e.Steps {
		for _, s := range step.Rule {
			if reason := e.reason(i, s); reason != "" {
				out = append(out, reason)
			}
		}
	}
	if len(e.Steps) == 0 || e.outcome() == Untouched {
		out = append(out, "no rule of nftproxy serves this address")
	}
	return out
}

// reason says why a statement of the i-th step did what it did; nothing where that needs no reason.
func (e *ending) reason(i int, s rules.Statement) string {
	step := e.Steps[i]
	switch s := s.(type) {
	case rules.SetMark:
		if e.Masqueraded {
			return e.whyMarked(step)
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
		return fmt.Sprintf("session affinity: %s stays with %s", e.client, e.To)
	case rules.DNAT: // as versions before this one wrote it
		if s.Map.Kind == rules.Affinity {
			return fmt.Sprintf("session affinity: %s stays with %s", e.client, e.To)
		}
	case rules.Forget:
		return fmt.Sprintf("session affinity: the endpoint that %s was with is gone; it stays with the next one that it gets", e.client)
	case rules.Drop:
		switch {
		case setOf(step.Rule, rules.Sources):
			return fmt.Sprintf("%s is not in loadBalancerSourceRanges (%s)", e.client, rangesText(e.port))
		case setOf(step.Rule, rules.ServiceCIDRs):
			return "no Service has this address of a ServiceCIDR"
		}
		return "the traffic policy is Local, and no endpoint on this node can be used"
	case rules.Reject, rules.Reset, rules.RejectProtocol:
		if i > 0 && setOf(e.Steps[i-1].Rule, rules.ClusterIPs) {
			return fmt.Sprintf("the Service has no port %d/%s", e.frontend.at.Port, e.port.Protocol)
		}
		return noEndpoints(e.port)
	}
	return ""
}

// whyMarked says why a rule marks connections to be masqueraded.
func (e *ending) whyMarked(step fate.Step) string {
	switch {
	case setOf(step.Rule, rules.ClusterIPs) && e.masqueradeAll:
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
