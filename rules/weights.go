// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"cmp"
	"net/netip"
	"slices"
)

// MaxWeight is the greatest weight that somebody can give an endpoint, and the greatest of Policies' weights.
const MaxWeight = 1<<16 - 1

// Weighting is what an endpoint gets of new connections, besides what its state says.
type Weighting struct {
	// Weight is the endpoint's share, relative to those of others; 0: nobody says, which makes it 1. In a Usable it
	// is what the node's place makes of it.
	Weight uint32
	// Idle says that somebody gave it the weight 0: it gets no new connections, as long as others can.
	Idle bool
	// Settling says that it became ready a moment ago, and is to wait: it gets no new connections, as long as others can.
	Settling bool
	// Warm is how many tenths of its weight count while it is new; 0: all.
	Warm uint8
	// Open is how many connections to it are open, where the scheduler asks for that.
	Open uint32
	// Zone is the zone that it is in; empty: that is not known.
	Zone string
}

// Backend is where connections go to.
type Backend struct {
	Protocol Protocol
	Addr     netip.AddrPort
}

// weight returns the weight, which is not 0.
func (w *Weighting) weight() uint32 { return max(w.Weight, 1) }

// said says whether somebody gave a weight.
func (w *Weighting) said() bool { return w.Weight > 0 || w.Idle }

// merge takes what another EndpointSlice says of the same endpoint: a weight that somebody gave counts more than none,
// the greater one of two. So the order does not matter.
func (w *Weighting) merge(o *Weighting) {
	switch {
	case !o.said():
	case !w.said() || w.Idle:
		w.Weight, w.Idle = o.Weight, o.Idle
	default:
		w.Weight = max(w.Weight, o.Weight)
	}
	w.Settling = w.Settling || o.Settling
	w.Warm, w.Open, w.Zone = max(w.Warm, o.Warm), max(w.Open, o.Open), max(w.Zone, o.Zone)
}

// weigh gives the endpoints of a traffic policy the weights that they have on a node, and leaves out those that get no new
// connections. It changes the list.
func weigh(sp *ServicePort, list []Endpoint, n *Node) []Endpoint {
	if waits := waiting(list); waits != nil {
		list = slices.DeleteFunc(list, func(e Endpoint) bool { return waits(&e) })
	}
	for i := range list {
		if f := sp.factor(&list[i], n); f > 1 {
			list[i].Weight = list[i].weight() * f
		}
	}
	return list
}

// waiting tells which endpoints of a policy get no new connections: those of weight 0 and, of the others, those that settle.
// Where all have the weight 0, or all settle, each gets as much as the others: nobody wants an outage. Nil: none wait.
func waiting(list []Endpoint) func(*Endpoint) bool {
	idle, settling, weighty, settled := false, false, false, false
	for i := range list {
		e := &list[i]
		idle, settling = idle || e.Idle, settling || e.Settling
		weighty, settled = weighty || !e.Idle, settled || !e.Idle && !e.Settling
	}
	if idle && weighty || settling && settled {
		return func(e *Endpoint) bool { return weighty && e.Idle || settled && e.Settling }
	}
	return nil
}

// factor is what an endpoint's place makes of its weight. A scheduler that is to choose alike on all nodes cannot look at it.
func (sp *ServicePort) factor(e *Endpoint, n *Node) uint32 {
	var out uint32 = 1
	if schedulers[sp.Scheduler].alike {
		return out
	}
	if e.Zone != "" && e.Zone == n.Zone {
		out = max(out, uint32(sp.ZoneWeight))
	}
	if e.Local {
		out = max(out, uint32(sp.LocalWeight))
	}
	return out
}

// reduced divides weights by their greatest common divisor, and returns their sum.
func reduced(weights []uint64) (sum uint64) {
	var divisor uint64
	for _, w := range weights {
		for a, b := w, divisor; ; a, b = b, a%b {
			if b == 0 {
				divisor = a
				break
			}
		}
	}
	for i := range weights {
		weights[i] /= max(divisor, 1)
		sum += weights[i]
	}
	return sum
}

// apportion makes weights add up to total, each as near to its share as whole numbers are: the method of largest
// remainders, of equal ones the first. A weight above 0 whose share is less than 1 gets 1 if all of them together
// take no more than a thousandth of the total from the others, or each is to have some.
func apportion(weights []uint64, total uint64, each bool) {
	done := make([]bool, len(weights))
	for {
		sum, small := uint64(0), []int(nil)
		for i, w := range weights {
			if !done[i] {
				sum += w
			}
		}
		for i, w := range weights {
			if !done[i] && w > 0 && w*total < sum {
				small = append(small, i)
			}
		}
		if len(small) == 0 || !each && uint64(len(small)) > total/1000 || uint64(len(small)) > total {
			share(weights, done, total, sum)
			return
		}
		for _, i := range small {
			weights[i], done[i] = 1, true
		}
		total -= uint64(len(small))
	}
}

// share apportions total among the weights that are not done, whose sum is known.
func share(weights []uint64, done []bool, total, sum uint64) {
	type remainder struct {
		of uint64
		at int
	}
	var order []remainder
	left := total
	for i, w := range weights {
		if done[i] || sum == 0 {
			continue
		}
		weights[i] = w * total / sum
		left -= weights[i]
		order = append(order, remainder{w * total % sum, i})
	}
	slices.SortStableFunc(order, func(a, b remainder) int { return cmp.Compare(b.of, a.of) })
	for _, r := range order[:min(int(left), len(order))] { //nolint:gosec // less than there are weights
		weights[r.at]++
	}
}
