// SPDX-License-Identifier: Apache-2.0

package proxier

import (
	"maps"
	"net/netip"
	"sync"
	"time"

	"github.com/nftproxy/nftproxy/rules"
)

// pace is how much CPU time looking through flows may take: after a rest, burst; then one part in so many of
// the time, however much one look takes, which depends on how full the table is.
type pace struct {
	share        int
	burst, pause time.Duration // pause: the least rest
}

// flowQueues are for the protocols that wait differently.
type flowQueues struct{ tcp, datagram *flowQueue }

// flowWork says which flows are to be looked through: those to frontends, NodePorts' ones also at addresses
// that have left.
type flowWork struct {
	frontends map[rules.Frontend]struct{}
	left      map[netip.Addr]struct{}
}

func newFlowWork() flowWork {
	return flowWork{map[rules.Frontend]struct{}{}, map[netip.Addr]struct{}{}}
}

// merge adds work.
func (w *flowWork) merge(more flowWork) {
	maps.Copy(w.frontends, more.frontends)
	maps.Copy(w.left, more.left)
}

// flowQueue holds work that waits.
type flowQueue struct {
	pace
	used  time.Duration // of the burst; belongs to the goroutine that cleans
	ended time.Time     // the last look; likewise

	mu   sync.Mutex
	work flowWork
	// repaired is work because of repairs, of which there may be many.
	repaired waiting
	// second is work that is looked at once more, and next what follows it, which is not due before it.
	second, next waiting
	wake         chan struct{}
}

// waiting is work that is done from a time on.
type waiting struct {
	flowWork
	from time.Time
	// found is how many second looks some of it had that found something.
	found int
}

func newWaiting() waiting { return waiting{flowWork: newFlowWork()} }

// due says whether there is work, and it is time to do it.
func (w *waiting) due(now time.Time) bool { return len(w.frontends) > 0 && !now.Before(w.from) }

// settling is how long after a look the same flows are looked through again at the earliest: with the next look that there is anyway. The
// rules of before a commit may have translated a packet that becomes a flow only after the look: the kernel puts a new flow into its
// table when the first packet leaves the node. What holds a packet up are rules that queue it to a program, as some network policies do,
// and a virtual processor that does not run. Its client would send to an endpoint that is gone for as long as it goes on sending.
const settling = 2 * time.Second

// patience is how much longer a second look waits for another one to share: most of what a look costs is to walk the kernel's table.
const patience = 2 * time.Second

// secondLooks is how often a second look that found something is followed by another one.
const secondLooks = 3

// repairedTimes is for looks that repairs have caused: the next one waits so many times as long as the last one took. Another
// program may change the tables again and again.
const repairedTimes = 150

// newFlowQueues returns queues in which UDP's and SCTP's flows do not wait, as they lose what is sent meanwhile.
// TCP's are connections without an answer, whose clients send their SYN again after a second: a look a tenth of a
// second later serves several commits.
func newFlowQueues() flowQueues {
	const burst = 3 * time.Second
	return flowQueues{
		tcp:      newFlowQueue(pace{share: 20, burst: burst, pause: 100 * time.Millisecond}),
		datagram: newFlowQueue(pace{share: 10, burst: burst}),
	}
}

func newFlowQueue(p pace) *flowQueue {
	return &flowQueue{pace: p, work: newFlowWork(), repaired: newWaiting(), second: newWaiting(), next: newWaiting(), wake: make(chan struct{}, 1)}
}

// rest says how long to rest after a look that ends now and has taken so much CPU time.
func (q *flowQueue) rest(busy time.Duration) time.Duration {
	times := time.Duration(q.share - 1) // as long as looking
	now := time.Now()
	q.used = max(0, q.used-(now.Sub(q.ended)-busy)/times) + busy
	q.ended = now
	return max(q.pause, times*(q.used-q.burst)) //nolint:durationcheck // times is a number
}

// put queues frontends, each where its protocol belongs, and addresses that have left.
func (q flowQueues) put(frontends []rules.Frontend, left ...netip.Addr) {
	tcp, datagram := byQueue(frontends)
	q.tcp.put(tcp, left)
	q.datagram.put(datagram, left)
}

// putRepaired queues them because of a repair.
func (q flowQueues) putRepaired(frontends []rules.Frontend, left ...netip.Addr) {
	tcp, datagram := byQueue(frontends)
	q.tcp.putRepaired(tcp, left)
	q.datagram.putRepaired(datagram, left)
}

func byQueue(frontends []rules.Frontend) (tcp, datagram []rules.Frontend) {
	for _, f := range frontends {
		if f.Protocol == rules.TCP {
			tcp = append(tcp, f)
		} else {
			datagram = append(datagram, f)
		}
	}
	return tcp, datagram
}

func (q *flowQueue) put(frontends []rules.Frontend, left []netip.Addr) {
	q.add(&q.work, frontends, left)
}

func (q *flowQueue) putRepaired(frontends []rules.Frontend, left []netip.Addr) {
	q.add(&q.repaired.flowWork, frontends, left)
}

// add adds to one of the queue's works.
func (q *flowQueue) add(to *flowWork, frontends []rules.Frontend, left []netip.Addr) {
	if len(frontends) == 0 {
		return
	}
	q.mu.Lock()
	for _, f := range frontends {
		to.frontends[f] = struct{}{}
	}
	for _, a := range left {
		to.left[a] = struct{}{}
	}
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// flowLook is the work of one look.
type flowLook struct {
	flowWork
	fresh    flowWork // what of it commits have caused since the last look
	second   waiting  // what of it was looked at before
	repaired bool     // some of it repairs have caused
}

// take takes the work that is due.
func (q *flowQueue) take() flowLook {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	out := flowLook{flowWork: q.work, fresh: q.work, repaired: q.repaired.due(now)}
	q.work = newFlowWork()
	second := q.second.due(now)
	if !out.repaired && !second {
		return out
	}
	out.flowWork = newFlowWork()
	out.merge(out.fresh)
	if out.repaired {
		out.merge(q.repaired.flowWork)
		q.repaired = newWaiting()
	}
	if second {
		out.second, q.second = q.second, newWaiting()
		if q.next.due(now) {
			out.second.merge(q.next.flowWork)
			out.second.found = max(out.second.found, q.next.found)
			q.next = newWaiting()
		}
		out.merge(out.second.flowWork)
	}
	return out
}

// looked notes that a look has ended that found something or not. It comes after rest.
func (q *flowQueue) looked(l flowLook, busy time.Duration, found bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	if l.repaired {
		q.repaired.from = now.Add(repairedTimes * busy)
	}
	more := newFlowWork()
	more.merge(l.fresh)
	if found && l.second.found < secondLooks && len(l.second.frontends) > 0 {
		more.merge(l.second.flowWork)
		q.next.found = max(q.next.found, l.second.found+1)
	}
	if len(more.frontends) > 0 {
		q.next.merge(more)
		q.next.from = now.Add(q.spare(busy))
	}
	if len(q.second.frontends) == 0 {
		q.second, q.next = q.next, newWaiting()
	}
}

// spare says how long from now on until a second look, which may take as much CPU time as the last one, holds up none that is
// urgent.
func (q *flowQueue) spare(busy time.Duration) time.Duration {
	times := time.Duration(q.share - 1)
	return max(settling, times*(q.used+min(busy, q.burst)-q.burst)) //nolint:durationcheck // times is a number
}

// due says how long until what waits is due; false: there is nothing.
func (q *flowQueue) due() (in time.Duration, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	at := func(w *waiting, more time.Duration) {
		if wait := time.Until(w.from) + more; len(w.frontends) > 0 && (!ok || wait < in) {
			in, ok = wait, true
		}
	}
	at(&q.repaired, 0)
	at(&q.second, patience)
	return max(in, 0), ok
}
