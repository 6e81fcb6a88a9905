// SPDX-License-Identifier: Apache-2.0

package proxier

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nftproxy/nftproxy/conntrack"
	"github.com/nftproxy/nftproxy/internal/cputime"
	"github.com/nftproxy/nftproxy/proxier/failover"
	"github.com/nftproxy/nftproxy/rules"
)

// Failover is what it takes to free connections without an answer.
type Failover struct {
	failover.Config
	Noted   Noted
	Flows   UnansweredFlows
	Metrics *FailoverMetrics // nil: nothing is counted
	// CPU runs a function and returns the CPU time that it took; nil: cputime.Of.
	CPU func(func()) time.Duration
}

// UnansweredFlows finds and deletes flows without an answer.
type UnansweredFlows interface {
	// Get returns the flow that a client's packets have begun; false if there is none.
	Get(ctx context.Context, proto rules.Protocol, orig conntrack.Tuple) (conntrack.Flow, bool, error)
	// Delete deletes flows and returns how many were there.
	Delete(ctx context.Context, flows []conntrack.Flow) (int, error)
	// DeleteUnanswered deletes the flows to some backends that never answered, and returns how many.
	DeleteUnanswered(ctx context.Context, backends []rules.Backend) (int, error)
}

// How often the kernel is asked, and what part of a CPU's time that may take. On a node with much else to do a look takes longer, but
// no more of that: clients do not wait for the others' work.
const (
	lookPause = 250 * time.Millisecond
	lookShare = 20
)

// A connection is freed so often at once; then it stays with an endpoint for a while, as that may only be slow: twice as long each time
// that it is freed again. So long after the last time all begins anew.
const (
	mostRescues = 3
	firstStay   = 2 * time.Second
	rescueRest  = time.Minute
)

// mostRescued is how many connections are looked at in one look.
const mostRescued = 1 << 12

// rescuer frees connections without an answer from their endpoints, and finds out which endpoints get none. All but
// ejected, committed and ports belongs to one goroutine.
type rescuer struct {
	silentTeller
	config  Failover
	kernel  Kernel // deletes clients that are remembered
	machine *failover.Machine
	noted   noted
	freed   map[rules.Key]rescues
	ports   watchedPorts
	// away are endpoints whose other connections are freed after the next commit.
	away []rules.Backend

	active atomic.Bool
	wake   chan struct{} // active, or something was committed
	out    atomic.Pointer[map[rules.Owner][]rules.Ejected]
}

// rescues says how often a client's connection was freed.
type rescues struct {
	n    int
	last time.Time
}

// stays says whether the connection is to stay where it is now.
func (r rescues) stays(now time.Time) bool {
	return r.n >= mostRescues && now.Sub(r.last) < firstStay<<(r.n-mostRescues)
}

func newRescuer(f Failover, c *Config, t *teller) *rescuer {
	f.Config = f.WithDefaults()
	if f.Metrics == nil {
		f.Metrics = NewFailoverMetrics(false)
	}
	if f.CPU == nil {
		f.CPU = cputime.Of
	}
	tell := silentTeller{t, c.Cluster.NodeName, f.Metrics, map[failover.Endpoint]time.Time{}}
	return &rescuer{silentTeller: tell, config: f, kernel: c.Kernel, machine: failover.New(f.Config), noted: newNoted(f.Noted, c.Rules.Table), freed: map[rules.Key]rescues{},
		ports: watchedPorts{of: map[rules.Owner]*watched{}}, wake: make(chan struct{}, 1)}
}

// ejected returns the endpoints of an owner that are ejected.
func (r *rescuer) ejected(o rules.Owner) (e rules.Ejection) {
	e.Share = r.config.Share
	if out := r.out.Load(); out != nil {
		e.Endpoints = (*out)[o]
	}
	return e
}

// committed is told that the kernel holds what was built, or not all of it.
func (r *rescuer) committed(b *builder, d *rules.Desired) {
	if r == nil {
		return
	}
	r.ports.set(b.built, func(o rules.Owner) *watched { return b.aspects[o].watched })
	r.active.Store(d.Failover(rules.IPv4) || d.Failover(rules.IPv6))
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// start starts the goroutine, which ends with ctx.
func (r *rescuer) start(ctx context.Context) *sync.WaitGroup {
	var wg sync.WaitGroup
	if r != nil {
		wg.Go(func() { r.run(ctx) })
	}
	return &wg
}

// run looks again and again while some Service has failover. A commit that somebody waits for ends the pause.
func (r *rescuer) run(ctx context.Context) {
	pause := newTimer()
	defer pause.stop()
	var failed backoff
	for {
		rest := time.Duration(0)
		if r.active.Load() || !r.machine.Idle() {
			var err error
			took := r.config.CPU(func() { err = r.look(ctx) })
			if rest = max(lookPause, lookShare*took); err != nil && ctx.Err() == nil {
				rest = max(rest, failed.next())
				r.log.Error(err, "Could not look after connections without an answer; trying again", "in", rest)
			} else {
				failed.reset()
			}
		}
		if rest > 0 {
			pause.set(rest)
		}
		if !r.wait(ctx, pause, rest > 0) {
			return
		}
	}
}

// wait waits for the pause to end, and frees meanwhile what waits for a commit. Without a pause it waits for a commit.
func (r *rescuer) wait(ctx context.Context, pause *timer, pausing bool) bool {
	for {
		select {
		case <-ctx.Done():
			return false
		case <-pause.C():
			return true
		case <-r.wake:
			r.freeAway(ctx)
			if !pausing {
				return true
			}
		}
	}
}

// freeAway frees the connections to endpoints that were just ejected, so that their next packet goes elsewhere.
func (r *rescuer) freeAway(ctx context.Context) {
	if len(r.away) == 0 {
		return
	}
	n, err := r.config.Flows.DeleteUnanswered(ctx, r.away)
	if r.away = nil; err != nil && ctx.Err() == nil {
		r.log.Error(err, "Connections to endpoints that do not answer take longer than they could")
	}
	r.config.Metrics.rescued.Add(float64(n))
}

// look frees the connections that packets have noted as unanswered, and decides which endpoints are ejected.
func (r *rescuer) look(ctx context.Context) error {
	found, err := r.noted.unanswered()
	if len(found) == 0 && r.machine.Idle() {
		return err
	}
	now := time.Now()
	errs := []error{err, r.noted.answering(r.machine.Answered)}
	var free []conntrack.Flow
	for i := range found[:min(len(found), mostRescued)] {
		flow, ok, rerr := r.rescue(ctx, &found[i], now)
		if errs = append(errs, rerr); ok {
			free = append(free, flow)
		}
	}
	_, err = r.config.Flows.Delete(ctx, free)
	errs = append(errs, err)
	r.decide(now)
	maps.DeleteFunc(r.freed, func(_ rules.Key, f rescues) bool { return now.Sub(f.last) > rescueRest })
	return errors.Join(errs...)
}

// rescue says whether a connection is to be freed, and makes sure that its client is not remembered with the endpoint.
func (r *rescuer) rescue(ctx context.Context, u *unanswered, now time.Time) (conntrack.Flow, bool, error) {
	flow, ok, err := r.config.Flows.Get(ctx, u.client.Protocol, conntrack.Tuple{Src: u.from(), Dst: u.to})
	if err != nil || !ok || !flow.Unanswered() {
		return flow, false, err
	}
	owner := r.cluster.ServedBy(rules.FrontendAt(u.to, u.client.Protocol))
	p := r.ports.get(owner)
	if p == nil || !slices.Contains(p.usable, flow.Reply.Src) {
		return flow, false, nil
	}
	e := failover.Endpoint{Owner: owner, At: rules.Backend{Protocol: flow.Protocol, Addr: flow.Reply.Src}}
	if flow.Protocol == rules.UDP && !r.answers(p) {
		return flow, false, nil // nothing says that this service ever answers
	}
	r.machine.Unanswered(e, u.from(), u.when)
	f := r.freed[u.client]
	if len(p.usable) < 2 || f.stays(now) {
		return flow, false, nil
	}
	r.freed[u.client] = rescues{f.n + 1, now}
	r.config.Metrics.rescue(owner.ServicePortName)
	return flow, true, r.forget(owner, p, u, flow.Reply.Src)
}

// answers says whether some endpoint of a service port has answered of late.
func (r *rescuer) answers(p *watched) bool {
	return slices.ContainsFunc(p.usable, func(a netip.AddrPort) bool { return r.machine.Answers(rules.Backend{Protocol: p.protocol, Addr: a}) })
}

// forget takes a client out of the maps of session affinity that have it with an endpoint.
func (r *rescuer) forget(o rules.Owner, p *watched, u *unanswered, endpoint netip.AddrPort) error {
	if !p.sticky {
		return nil
	}
	key := rules.Key{Addr: u.client.Addr}
	for _, id := range rules.AffinityMaps(o.ServicePortName) {
		v, found, err := r.config.Noted.Lookup(r.noted.table, o.Family, id, key)
		if err != nil {
			return err
		}
		if !found || v.To != endpoint {
			continue
		}
		tx := rules.Tx{Name: r.noted.table}
		tx.Add(rules.Op{Kind: rules.DeleteElements, Family: o.Family, Set: id, Elements: []rules.Element{{Key: key}}})
		if err := r.kernel.Apply(tx); err != nil && !gone(err) {
			return err
		}
	}
	return nil
}

// decide has the machine decide, and those told whom it concerns.
func (r *rescuer) decide(now time.Time) {
	changes := r.machine.Decide(now, func(o rules.Owner) []netip.AddrPort {
		if p := r.ports.get(o); p != nil {
			return p.usable
		}
		return nil
	})
	r.config.Metrics.counts(r.machine.Counts())
	if len(changes) == 0 {
		return
	}
	owners := map[rules.Owner]bool{}
	for _, c := range changes {
		owners[c.Owner] = true
		r.tell(c, now)
		if c.Kind == failover.Ejected || c.Kind == failover.Failed {
			r.away = append(r.away, c.At)
		}
	}
	out := map[rules.Owner][]rules.Ejected{}
	if last := r.out.Load(); last != nil {
		out = maps.Clone(*last)
	}
	for o := range owners {
		if out[o] = r.machine.Of(o); len(out[o]) == 0 {
			delete(out, o)
		}
	}
	r.out.Store(&out)
	r.cluster.Mark(slices.Collect(maps.Keys(owners))...)
}
