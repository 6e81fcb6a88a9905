// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"slices"

	"github.com/nftproxy/nftproxy/reason"
	"github.com/nftproxy/nftproxy/rules"
)

// bound leaves out what is beyond the bounds, and says so once for each kind.
func (s *service) bound(fault func(reason.Code, ...any)) {
	if n := len(s.ports) - maxSets; n > 0 && (s.policies.Affinity > 0 || len(s.sourceRanges[0])+len(s.sourceRanges[1]) > 0) {
		for i := range s.ports[maxSets:] {
			s.ports[maxSets+i].plain = true
		}
		s.over.Sets = n
		fault(reason.TooManySets, len(s.ports), maxSets)
	}
	perPort := maxOutside / max(1, len(s.ports))
	perPortRanges := maxRanges / max(1, len(s.ports))
	for _, f := range rules.Families {
		lbs, externals := s.loadBalancers[f], s.externalIPs[f]
		if n := len(lbs) + len(externals); n > perPort {
			s.loadBalancers[f] = slices.Clone(lbs[:min(len(lbs), perPort)])
			s.externalIPs[f] = slices.Clone(externals[:perPort-len(s.loadBalancers[f])])
			s.over.Frontends += (n - perPort) * len(s.ports)
			fault(reason.TooManyFrontends, familyNames[f], n, len(s.ports), maxOutside, perPort)
		}
		if n := len(s.sourceRanges[f]); n > perPortRanges {
			s.sourceRanges[f] = slices.Clone(s.sourceRanges[f][:perPortRanges])
			s.over.Ranges += (n - perPortRanges) * len(s.ports)
			fault(reason.TooManyRanges, familyNames[f], n, len(s.ports), maxRanges, perPortRanges)
		}
	}
}

var familyNames = [...]string{rules.IPv4: "IPv4", rules.IPv6: "IPv6"}
