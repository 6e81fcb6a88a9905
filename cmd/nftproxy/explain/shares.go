// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/nftproxy/nftproxy/proxier"
	"github.com/nftproxy/nftproxy/proxier/cluster"
	"github.com/nftproxy/nftproxy/rules"
)

// share says what an endpoint gets of new connections, where not all get the same.
func (w *World) share(p *proxier.Port, e *Endpoint, j *rules.ExplainedEndpoint) {
	if p.Scheduler.Counts() {
		w.counted(p, e, j.Addr)
		return
	}
	part := func(s rules.Share) float64 { return float64(s.Slots) / max(float64(s.Of), 1) }
	e.ClusterShare, e.LocalShare = part(j.ClusterShare), part(j.LocalShare)
	s := j.ClusterShare
	if s.Of == 0 {
		s = j.LocalShare
	}
	if s.Of == 0 {
		return
	}
	text := fmt.Sprintf("%s of new connections: weight %d of %d", percent(part(s)), s.Weight, s.Sum)
	if s.Times > 1 {
		place := "in this zone"
		if j.Endpoint.Local {
			place = "on this node"
		}
		text += fmt.Sprintf(", %d times its own as it is %s", s.Times, place)
	}
	if s.Warm > 0 {
		text += fmt.Sprintf(", of which %d tenths count while it is new", s.Warm)
	}
	if s.Rounded {
		text += fmt.Sprintf(", rounded to %d of %d slots", s.Slots, s.Of)
	}
	if j.ClusterShare.Of > 0 && j.LocalShare.Of > 0 && part(j.ClusterShare) != part(j.LocalShare) {
		text += fmt.Sprintf("; for %s Local %s", localPolicies(p), percent(part(j.LocalShare)))
	}
	e.Share = text
}

// tableOf says whether a scheduler's table is small for the endpoints; nothing if it is not, or there is none.
func tableOf(p *proxier.Port, explained []rules.ExplainedEndpoint) string {
	if !p.Scheduler.Tables() {
		return ""
	}
	slots, endpoints := [2]int{}, [2]int{} // of both traffic policies
	for _, j := range explained {
		for i, s := range []rules.Share{j.ClusterShare, j.LocalShare} {
			if s.Of > 0 {
				slots[i], endpoints[i] = s.Of, endpoints[i]+1
			}
		}
	}
	for i := range slots {
		if finer, coarse := rules.CoarseTable(slots[i], endpoints[i]); coarse {
			return fmt.Sprintf("%d slots are few for %d endpoints: when one leaves, several in a hundred connections of the others move, too; with %d (%s) about one does, as far as --max-slots leaves room",
				slots[i], endpoints[i], finer, cluster.MaglevSizeAnnotation)
		}
	}
	return ""
}

// counted says so for a scheduler that counts, as the kernel has it.
func (w *World) counted(p *proxier.Port, e *Endpoint, a netip.AddrPort) {
	shares := map[rules.Role]float64{}
	for _, role := range []rules.Role{rules.ChainService, rules.ChainLocal} {
		slots, of := p.Objects.SlotsOf(rules.ChainID{Role: role, Of: p.Name}, a)
		if of > 0 {
			shares[role] = float64(slots) / float64(of)
		}
	}
	e.ClusterShare, e.LocalShare = shares[rules.ChainService], shares[rules.ChainLocal]
	share, ok := shares[rules.ChainService]
	if !ok {
		share, ok = shares[rules.ChainLocal]
	}
	if !ok || !e.Cluster && !e.Local {
		return
	}
	e.Share = fmt.Sprintf("%s of the next connections, by its weight and by how many are open", percent(share))
	if w.Have == nil {
		e.Share += ": the kernel was not asked, and this is so while none are"
	}
}

// percent writes a share with as many digits as tell.
func percent(share float64) string {
	text := fmt.Sprintf("%.2f", 100*share)
	return strings.TrimSuffix(strings.TrimRight(text, "0"), ".") + " %"
}
