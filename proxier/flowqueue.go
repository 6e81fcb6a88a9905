// SPDX-License-Identifier: Apache-2.0

package proxier

import (
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
	wake chan struct{}
}

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
	return &flowQueue{pace: p, work: newFlowWork(), wake: make(chan struct{}, 1)}
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
	var tcp, datagram []rules.Frontend
	for _, f := range frontends {
		if f.Protocol == rules.TCP {
			tcp = append(tcp, f)
		} else {
			datagram = append(datagram, f)
		}
	}
	q.tcp.put(tcp, left)
	q.datagram.put(datagram, left)
}

func (q *flowQueue) put(frontends []rules.Frontend, left []netip.Addr) {
	if len(frontends) == 0 {
		return
	}
	q.mu.Lock()
	for _, f := range frontends {
		q.work.frontends[f] = struct{}{}
	}
	for _, a := range left {
		q.work.left[a] = struct{}{}
	}
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

func (q *flowQueue) take() flowWork {
	q.mu.Lock()
	defer q.mu.Unlock()
	out := q.work
	q.work = newFlowWork()
	return out
}
