// SPDX-License-Identifier: Apache-2.0

package proxier

import "github.com/nftproxy/nftproxy/proxier/cluster"

// Bounds of what is remembered of Services that were written.
const (
	// mostTouched is how many names are remembered: some 200 kB.
	mostTouched = 4096
	// mostTouchedAtOnce is how many Services a transaction may have to have them named.
	mostTouchedAtOnce = 1000
)

// touched is a Service that was written by the transaction of a number.
type touched struct {
	number uint64
	name   cluster.ObjectName
}

// feed remembers which Services were written. The history's lock guards it.
type feed struct {
	ring []touched // a ring once there are mostTouched
	next int       // where the oldest is then
	from uint64    // of the transactions up to this number it does not know all
	wake chan struct{}
}

// add notes what the transaction of a number has written.
func (f *feed) add(number uint64, changed []cluster.Changed) {
	if len(changed) > mostTouchedAtOnce {
		f.from = number
		return
	}
	last := cluster.ObjectName{}
	for i := range changed {
		n := cluster.ServiceOf(changed[i].Owner)
		if n == last { // its other ports and family
			continue
		}
		last = n
		if len(f.ring) < mostTouched {
			f.ring = append(f.ring, touched{number, n})
			continue
		}
		f.from = f.ring[f.next].number
		f.ring[f.next] = touched{number, n}
		f.next = (f.next + 1) % mostTouched
	}
}

// since returns what was written after the transaction of a number; all: it is not known, or too much.
func (f *feed) since(number uint64, most int) (names []cluster.ObjectName, all bool) {
	if number < f.from {
		return nil, true
	}
	seen := map[cluster.ObjectName]bool{}
	for i := range f.ring {
		t := &f.ring[(f.next+len(f.ring)-1-i)%len(f.ring)] // the newest first
		if t.number <= number {
			break
		}
		if seen[t.name] {
			continue
		}
		if len(names) == most {
			return nil, true
		}
		seen[t.name] = true
		names = append(names, t.name)
	}
	return names, false
}

// tell wakes who waits for news.
func (f *feed) tell() {
	if f.wake != nil {
		close(f.wake)
		f.wake = nil
	}
}
