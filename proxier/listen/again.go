// SPDX-License-Identifier: Apache-2.0

package listen

import (
	"sync"
	"time"
)

// Pause is how long an address that cannot be had is left alone, as kube-proxy leaves it.
const Pause = 5 * time.Second

// Again tries again and again.
type Again struct {
	stop chan struct{}
	done sync.WaitGroup
}

// NewAgain calls try after each Pause, in a goroutine of its own, until Close.
func NewAgain(try func()) *Again {
	a := &Again{stop: make(chan struct{})}
	a.done.Go(func() { a.run(try) })
	return a
}

func (a *Again) run(try func()) {
	tick := time.NewTicker(Pause)
	defer tick.Stop()
	for {
		select {
		case <-a.stop:
			return
		case <-tick.C:
			try()
		}
	}
}

// Close returns when try is not called any more.
func (a *Again) Close() {
	close(a.stop)
	a.done.Wait()
}

// Faults remembers where listening failed. The zero value has none. It has no lock.
type Faults[K comparable] struct{ told map[K]struct{} }

// Note takes the result of listening at a place. It says whether that is an error to be told of: the
// first one since it was possible there or was forgotten.
func (f *Faults[K]) Note(at K, err error) (news bool) {
	if err == nil {
		f.Forget(at)
		return false
	}
	if _, told := f.told[at]; told {
		return false
	}
	if f.told == nil {
		f.told = map[K]struct{}{}
	}
	f.told[at] = struct{}{}
	return true
}

// Forget forgets a place where nobody wants to listen any more.
func (f *Faults[K]) Forget(at K) { delete(f.told, at) }

// ForgetIf forgets the places of which gone says that nobody wants to listen there any more.
func (f *Faults[K]) ForgetIf(gone func(at K) bool) {
	for at := range f.told {
		if gone(at) {
			delete(f.told, at)
		}
	}
}

// Any says whether there are places where listening failed last.
func (f *Faults[K]) Any() bool { return len(f.told) > 0 }
