// SPDX-License-Identifier: Apache-2.0

package proxier

import (
	"github.com/nftproxy/nftproxy/proxier/cluster"
)

// News is what was done to the tables since a Record.
type News struct {
	// Last is the number of the newest Record; 0: there is none.
	Last uint64
	// Records are the youngest, the oldest of them first, and Missed is how many there are before them.
	Records []Record
	Missed  uint64
	// Services are those whose endpoints or frontends were written, each once. All says that they are too many to be named: any
	// may have changed.
	Services []cluster.ObjectName
	All      bool
}

// news returns what is new since a number.
func (h *history) news(after, most uint64, names int) News {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := News{Last: h.last}
	if after > h.last {
		out.All = true
		return out
	}
	from := max(after, h.last-min(h.last, most), h.last-uint64(len(h.records)))
	out.Missed = from - after
	for n := from; n < h.last; n++ {
		out.Records = append(out.Records, h.records[n%h.most])
	}
	out.Services, out.All = h.feed.since(after, names)
	return out
}

// younger returns what is closed once there is a Record younger than that of a number.
func (h *history) younger(number uint64) <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.last > number {
		closed := make(chan struct{})
		close(closed)
		return closed
	}
	if h.feed.wake == nil {
		h.feed.wake = make(chan struct{})
	}
	return h.feed.wake
}

// Feed tells what is done to the tables. Its methods may be called at any time, from several goroutines, and cost programming nothing.
type Feed struct{ h *history }

// NewFeed returns the Feed of a Proxier.
func NewFeed(p *Proxier) Feed { return Feed{p.syncer.follow.history} }

// News returns what was done after the Record of a number: so many Records and names at most.
func (f Feed) News(after, most uint64, names int) News { return f.h.news(after, most, names) }

// Younger returns what is closed once there is a Record younger than that of a number.
func (f Feed) Younger(number uint64) <-chan struct{} { return f.h.younger(number) }
