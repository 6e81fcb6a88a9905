// SPDX-License-Identifier: Apache-2.0

package events

import (
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// As client-go's events: a series ends when nothing was added for so long, and while it goes on its count is written so often.
const (
	finishTime  = 6 * time.Minute
	refreshTime = 30 * time.Minute
)

// maxQueued is how many events wait for the API server at most; more are dropped.
const maxQueued = 1000

// subject is what events are told apart by: the same again within finishTime counts up the event that is there.
type subject struct {
	about        corev1.ObjectReference
	kind, reason string
}

// series is an event, and how often it was seen.
type series struct {
	event   *eventsv1.Event
	last    time.Time // seen
	written time.Time // with its count; zero: the API server does not have the event
	count   int32     // that was written
}

// current says whether the API server has the count, or nobody wants that any more.
func (s *series) current() bool { return s == nil || !s.written.IsZero() && s.count == count(s.event) }

func count(e *eventsv1.Event) int32 {
	if e.Series == nil {
		return 1
	}
	return e.Series.Count
}

// book knows all series and those that are to be written, in order.
type book struct {
	mu     sync.Mutex // guards what follows
	series map[subject]*series
	queue  []subject
	busy   bool // one is being written
	closed bool

	news  chan struct{} // has a value when there is something in the queue
	empty chan struct{} // closed when closed and nothing is to be written
}

func newBook() *book {
	return &book{series: map[subject]*series{}, news: make(chan struct{}, 1), empty: make(chan struct{})}
}

// add notes an event; make makes it, if it is the first of its series. The second one of a series is written at once, more of them
// are only counted: expire has them written.
func (b *book) add(s subject, now time.Time, make func() *eventsv1.Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return
	}
	known := b.series[s]
	if known == nil {
		if len(b.queue) >= maxQueued {
			return
		}
		b.series[s] = &series{event: make(), last: now}
		b.enqueue(s)
		return
	}
	first := known.event.Series == nil
	known.last = now
	known.event.Series = &eventsv1.EventSeries{Count: count(known.event) + 1, LastObservedTime: metav1.MicroTime{Time: now}}
	if first && !known.written.IsZero() {
		b.enqueue(s)
	}
}

// enqueue is called with the lock.
func (b *book) enqueue(s subject) {
	b.queue = append(b.queue, s)
	select {
	case b.news <- struct{}{}:
	default:
	}
}

// next takes the first of the queue that is to be written. Only who takes them calls it, done and expire.
func (b *book) next() (subject, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(b.queue) > 0 {
		s := b.queue[0]
		b.queue = b.queue[1:]
		if !b.series[s].current() {
			b.busy = true
			return s, true
		}
	}
	b.busy = false
	b.signal()
	return subject{}, false
}

// state returns a copy of a series' event as it is now, and whether the API server has it.
func (b *book) state(s subject) (e *eventsv1.Event, created bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.series[s].event.DeepCopy(), !b.series[s].written.IsZero()
}

// done notes that an event was written as it is, or that it could not be: then the next one begins a series.
func (b *book) done(s subject, e *eventsv1.Event, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !ok {
		delete(b.series, s)
		return
	}
	known := b.series[s]
	known.written, known.count = time.Now(), count(e)
	if count(e) == 1 && !known.current() {
		b.enqueue(s)
	}
}

// expire forgets series that have ended, and has the counts of others written if it is time.
func (b *book) expire(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for s, known := range b.series {
		ended := now.Sub(known.last) > finishTime
		switch {
		case known.written.IsZero(): // it is in the queue
		case ended && known.current():
			delete(b.series, s)
		case ended || !known.current() && now.Sub(known.written) > refreshTime:
			b.enqueue(s)
		}
	}
}

// close lets no more in, and returns what is closed when nothing is to be written.
func (b *book) close() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	b.signal()
	return b.empty
}

// signal is called with the lock.
func (b *book) signal() {
	if !b.closed || b.busy || len(b.queue) > 0 {
		return
	}
	select {
	case <-b.empty:
	default:
		close(b.empty)
	}
}
