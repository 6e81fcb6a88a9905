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

// flowQueue holds work that waits.
type flowQueue struct {
	pace
	used  time.Duration // of the burst; belongs to the goroutine that cleans
	ended time.Time     // the last look; likewise

	mu   sync.Mutex
	work flowWork
	// repaired is work because of repairs, of which there may be many: it is done from a time on.
	repaired flowWork
	from     time.Time
	looking  bool // at what is repaired, too; belongs to the goroutine that cleans
	wake     chan struct{}
}

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
	return &flowQueue{pace: p, work: newFlowWork(), repaired: newFlowWork(), wake: make(chan struct{}, 1)}
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
	q.add(&q.repaired, frontends, left)
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

// take takes the work that is due.
func (q *flowQueue) take() flowWork {
	q.mu.Lock()
	defer q.mu.Unlock()
	out := q.work
	q.work = newFlowWork()
	if q.looking = len(q.repaired.frontends) > 0 && !time.Now().Before(q.from); q.looking {
		maps.Copy(out.frontends, q.repaired.frontends)
		maps.Copy(out.left, q.repaired.left)
		q.repaired = newFlowWork()
	}
	return out
}

// repairedLooked notes how much CPU time a look took, if repairs had caused it.
func (q *flowQueue) repairedLooked(busy time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.looking {
		q.from = time.Now().Add(repairedTimes * busy)
	}
}

// due says how long until what repairs have caused is due; false: there is nothing.
func (q *flowQueue) due() (time.Duration, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return max(time.Until(q.from), 0), len(q.repaired.frontends) > 0
}
