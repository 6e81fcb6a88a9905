// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"net/netip"
	"time"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/nftproxy/nftproxy/rules"
)

// DefaultMaxSlots is how many slots all Services with weights, tables or counts may take together in each family and traffic
// policy, by default.
const DefaultMaxSlots = 1 << 19

// fewestSlots is how many each of them can have at least: 32,768 have that much together by default.
const fewestSlots = 16

// shares is what decides about the endpoints' shares of new connections besides the objects themselves.
type shares struct {
	// most is how many slots all Services together may have.
	most int
	// asking counts what makes a Service ask for slots: a policy, and EndpointSlices with a weight.
	asking map[ObjectName]int
	// limit is how many each of them may have: the same on every node, and few different numbers, as a new one lays all of them out anew.
	limit int
	// selective are the Services that are not for all nodes, labels those of this one.
	selective map[ObjectName]*service
	labels    labels.Set
	// new has, of Services with a slow start, each ready address that is known.
	new map[ObjectName]map[netip.Addr]newcomer
	// settled says that what comes from now on is new: not so the first lists.
	settled bool
	// open has how many connections are open to endpoints of Services that ask for that.
	open map[rules.Backend]uint32
	now  func() time.Time
	// tune gets a value when there may be something to Tune.
	tune chan struct{}
}

func newShares() shares {
	return shares{most: DefaultMaxSlots, limit: rules.MaxEndpoints, asking: map[ObjectName]int{}, selective: map[ObjectName]*service{},
		new: map[ObjectName]map[netip.Addr]newcomer{}, now: time.Now, tune: make(chan struct{}, 1)}
}

// poke tells that there may be something to tune.
func (sh *shares) poke() {
	select {
	case sh.tune <- struct{}{}:
	default:
	}
}

// asks says how much of a Service asks for slots.
func (s *service) asks() int {
	if s == nil {
		return 0
	}
	p := &s.policies
	if p.Scheduler.Tables() || p.Scheduler.Counts() || p.LocalWeight > 1 || p.ZoneWeight > 1 || s.choices.slowStart > 0 {
		return 1
	}
	return 0
}

// asks does so for an EndpointSlice.
func (s *slice) asks() int {
	if s == nil || s.weight == 0 {
		return 0
	}
	return 1
}

// ask notes that a Service asks for more or less.
func (st *store) ask(n ObjectName, more int) {
	if more == 0 {
		return
	}
	sh := &st.shares
	sh.poke()
	if sh.asking[n] += more; sh.asking[n] == 0 {
		delete(sh.asking, n)
	}
	limit := rules.MaxEndpoints
	for limit > fewestSlots && limit*len(sh.asking) > sh.most {
		limit /= 2
	}
	if limit == sh.limit {
		return
	}
	sh.limit = limit
	for n := range sh.asking {
		eachOwner(n, st.services[n], func(o rules.Owner, _ rules.ServicePort) { st.mark(o) })
	}
}

// slotLimit returns how many slots a port of a Service may have; 0: it asks for none.
func (st *store) slotLimit(n ObjectName) int {
	svc := st.services[n]
	if st.shares.asking[n] == 0 || svc == nil {
		return 0
	}
	return max(fewestSlots, st.shares.limit/max(1, len(svc.ports)))
}

// selected notes which nodes a Service is for, and returns it if this one is among them.
func (st *store) selected(n ObjectName, s *service) *service {
	if s == nil || s.choices.nodes == "" {
		delete(st.shares.selective, n)
		return s
	}
	st.shares.selective[n] = s
	if !s.choices.match(st.shares.labels) {
		return nil
	}
	return s
}

// weighting adds what is known of an endpoint besides what its EndpointSlice says.
func (st *store) weighting(n ObjectName, e *rules.Endpoint, p rules.Protocol) {
	sh := &st.shares
	if len(sh.new) > 0 {
		e.Warm = sh.new[n][e.Addr.Addr()].warm
	}
	if len(sh.open) > 0 {
		e.Open = sh.open[rules.Backend{Protocol: p, Addr: e.Addr}]
	}
}

// Elsewhere returns the Services that are for other nodes, by namespace/name, and the selector of those nodes.
func (c *Cluster) Elsewhere() map[string]string {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := map[string]string{}
	for n, svc := range c.store.shares.selective {
		if _, here := c.store.services[n]; !here {
			out[n.String()] = svc.choices.nodes
		}
	}
	return out
}

// newcomer is an address of a ready endpoint.
type newcomer struct {
	since time.Time // it is ready; the zero time: long since
	warm  uint8     // tenths of its weight; 0: all
}

// welcome notes which endpoints of a Service have become ready.
func (st *store) welcome(n ObjectName) {
	svc, sh := st.services[n], &st.shares
	if svc == nil || svc.choices.slowStart == 0 {
		delete(sh.new, n)
		return
	}
	known, any := sh.new[n]
	now := map[netip.Addr]newcomer{}
	for _, s := range st.byService[n] {
		for i := range s.endpoints {
			e := &s.endpoints[i]
			if !e.ready || e.terminating {
				continue
			}
			was, ok := known[e.addr()]
			if !ok && any && sh.settled {
				was = newcomer{sh.now(), 1}
				sh.poke()
			}
			now[e.addr()] = was
		}
	}
	sh.new[n] = now
}

// warmUp lets new endpoints have what they are due by now, and returns when the next one is due more; 0: none is.
func (st *store) warmUp() (next time.Duration, any bool) {
	now := st.shares.now()
	for n, list := range st.shares.new {
		svc := st.services[n]
		if svc == nil {
			continue
		}
		changed := false
		for a, who := range list {
			if who.warm == 0 {
				continue
			}
			due, in := warmth(now.Sub(who.since), svc.choices.slowStart)
			if due != who.warm {
				who.warm, changed = due, true
				list[a] = who
			}
			if in > 0 && (next == 0 || in < next) {
				next = in
			}
		}
		if changed {
			any = true
			eachOwner(n, svc, func(o rules.Owner, _ rules.ServicePort) { st.tune(o) })
		}
	}
	return next, any
}

// tune notes that the shares of a Service's endpoints may have changed.
func (st *store) tune(o rules.Owner) {
	if !st.changed[o] {
		st.changed[o] = false
	}
}

// warmth returns how many tenths of its weight an endpoint gets so long after it came, 0 being all of them, and when it gets more.
func warmth(age, slowStart time.Duration) (tenths uint8, next time.Duration) {
	if age >= slowStart {
		return 0, 0
	}
	step := max(slowStart/9, 1)
	n := min(age/step+1, 9)
	if n == 9 {
		return 9, slowStart - age
	}
	return uint8(n), n*step - age //nolint:durationcheck,gosec // n is a number, and below 10
}

// Tune gets a value when WarmUp or Counting may have news.
func (c *Cluster) Tune() <-chan struct{} { return c.store.shares.tune }

// WarmUp lets new endpoints of Services with a slow start have a larger share if it is time, and returns how long it is until
// the next one is due more; 0: none is.
func (c *Cluster) WarmUp() time.Duration {
	c.mu.Lock()
	next, changed := c.store.warmUp()
	c.mu.Unlock()
	if changed {
		c.listener.Changed()
	}
	return next
}

// Counting returns the endpoints whose open connections are to be counted; nil: no Service asks for that. A Service that asks may
// have no endpoints yet.
func (c *Cluster) Counting() map[rules.Backend]uint32 {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out map[rules.Backend]uint32
	for n := range c.store.shares.asking {
		svc := c.store.services[n]
		if svc == nil || !svc.policies.Scheduler.Counts() {
			continue
		}
		if out == nil {
			out = map[rules.Backend]uint32{}
		}
		eachOwner(n, svc, func(o rules.Owner, sp rules.ServicePort) {
			for _, e := range c.store.endpoints(o, sp.Protocol) {
				out[rules.Backend{Protocol: sp.Protocol, Addr: e.Addr}] = 0
			}
		})
	}
	return out
}

// SetOpen says how many connections are open to endpoints.
func (c *Cluster) SetOpen(open map[rules.Backend]uint32) {
	c.mu.Lock()
	st := c.store
	before := st.shares.open
	st.shares.open = open
	changed := false
	for n := range st.shares.asking {
		svc := st.services[n]
		if svc == nil || !svc.policies.Scheduler.Counts() {
			continue
		}
		eachOwner(n, svc, func(o rules.Owner, sp rules.ServicePort) {
			for _, e := range st.endpoints(o, sp.Protocol) {
				if b := (rules.Backend{Protocol: sp.Protocol, Addr: e.Addr}); before[b] != open[b] {
					st.tune(o)
					changed = true
					return
				}
			}
		})
	}
	c.mu.Unlock()
	if changed {
		c.listener.Changed()
	}
}
