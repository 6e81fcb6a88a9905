// SPDX-License-Identifier: Apache-2.0

package proxier

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/nftproxy/nftproxy/rules"
)

// Clients of an endpoint that is gone are deleted from the maps of session affinity twice: the first packet of
// a connection that was on its way when they were deleted the first time brings its client back.
const (
	clientPasses = 2
	clientPause  = time.Second
	// clientWait is how long programming waits for the first pass, which is over sooner but in
	// large maps: until then clients of an endpoint that is gone are sent there.
	clientWait = 50 * time.Millisecond
	// clientTries is how often that may fail; what is left then is for the next comparison.
	clientTries = 8
)

// clientMap is a map of session affinity.
type clientMap struct {
	family rules.Family
	set    rules.SetID
}

// staleClients says what is to be deleted from a map.
type staleClients struct {
	op     rules.Op
	looked chan struct{} // closed after the first try
	passes int           // that are left
	tries  int           // that are left
	next   time.Time
	backoff
}

// clientQueue holds the maps of session affinity that may have clients of endpoints that are gone.
type clientQueue struct {
	mu   sync.Mutex
	maps map[clientMap]*staleClients
	wake chan struct{}
}

func newClientQueue() *clientQueue {
	return &clientQueue{maps: map[clientMap]*staleClients{}, wake: make(chan struct{}, 1)}
}

// startClientCleaner starts the goroutine that deletes clients, so that programming does not wait for it: a
// map can have a hundred thousand. What it does not come to is found at the next start.
func (p *Proxier) startClientCleaner(ctx context.Context) *sync.WaitGroup {
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			s, op := p.clients.wait(ctx)
			if s == nil {
				return
			}
			tx := rules.Tx{Name: p.config.Rules.Table}
			tx.Add(op)
			err := p.config.Kernel.Apply(tx)
			if again := p.clients.done(s, err); err != nil {
				p.log.Error(err, "Clients may stay with endpoints that are gone", "triedAgain", again)
			}
		}
	})
	return &wg
}

// wait waits until a map is to be cleaned, and returns it, and how. It returns nil if ctx ended.
func (q *clientQueue) wait(ctx context.Context) (*staleClients, rules.Op) {
	timer := newTimer()
	defer timer.stop()
	for ctx.Err() == nil {
		s, op, next := q.first()
		if s != nil && !next.After(time.Now()) {
			return s, op
		}
		if s != nil {
			timer.set(time.Until(next))
		}
		select {
		case <-ctx.Done():
		case <-q.wake:
		case <-timer.C():
		}
	}
	return nil, rules.Op{}
}

// first returns the map that is to be cleaned first, how, and when.
func (q *clientQueue) first() (first *staleClients, op rules.Op, next time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, s := range q.maps {
		if first == nil || s.next.Before(first.next) {
			first = s
		}
	}
	if first == nil {
		return nil, op, next
	}
	return first, first.op, first.next
}

// done notes how the cleaning of a map went, and says whether it is tried again.
func (q *clientQueue) done(s *staleClients, err error) (again bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	select {
	case <-s.looked:
	default:
		close(s.looked)
	}
	m := clientMap{s.op.Family, s.op.Set}
	if q.maps[m] != s { // the map is gone, or to be cleaned of others
		return q.maps[m] != nil
	}
	if err == nil {
		s.passes--
		s.next = time.Now().Add(clientPause)
	} else {
		s.tries--
		s.next = time.Now().Add(s.backoff.next())
	}
	if s.passes <= 0 || s.tries <= 0 {
		delete(q.maps, m)
		return false
	}
	return true
}

// put queues what a transaction prunes, and waits a while for it.
func (q *clientQueue) put(tx rules.Tx) {
	if tx.Len() == 0 {
		return
	}
	var looked []chan struct{}
	q.mu.Lock()
	for _, op := range tx.Ops() {
		s := &staleClients{op: op, looked: make(chan struct{}), passes: clientPasses, tries: clientTries, next: time.Now()}
		q.maps[clientMap{op.Family, op.Set}] = s
		looked = append(looked, s.looked)
	}
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default:
	}
	enough := time.NewTimer(clientWait)
	defer enough.Stop()
	for _, c := range looked {
		select {
		case <-c:
		case <-enough.C:
			return
		}
	}
}

// update takes note of a commit: clients of endpoints that are back stay, and maps may be gone.
func (q *clientQueue) update(before, after []rules.Owned) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.maps) == 0 {
		return
	}
	for i := range before {
		f, now := before[i].Owner.Family, after[i].Objects.Affinity
		for _, m := range before[i].Objects.Affinity {
			if !slices.ContainsFunc(now, func(n rules.AffinityMap) bool { return n.Set == m.Set }) {
				delete(q.maps, clientMap{f, m.Set})
			}
		}
		for _, m := range now {
			if s := q.maps[clientMap{f, m.Set}]; s != nil {
				s.op.Keep = m.Keep
			}
		}
	}
}
