// SPDX-License-Identifier: Apache-2.0

package localport

import (
	"container/list"
	"sync"
)

// flows are the UDP flows of all ports. When there are too many the one that has been quiet for
// longest ends.
type flows struct {
	most int

	mu   sync.Mutex
	list list.List // of *udpSession, the quietest first
}

// add takes a flow in and ends another one if there is no room.
func (f *flows) add(s *udpSession) {
	f.mu.Lock()
	var old *udpSession
	if f.list.Len() >= f.most {
		old = f.list.Remove(f.list.Front()).(*udpSession)
		old.element = nil
	}
	s.element = f.list.PushBack(s)
	f.mu.Unlock()
	if old != nil {
		_ = old.backend.Close() // its answer ends, and forgets it
	}
}

// used says that a flow is not quiet.
func (f *flows) used(s *udpSession) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if s.element != nil {
		f.list.MoveToBack(s.element)
	}
}

// remove forgets a flow.
func (f *flows) remove(s *udpSession) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if s.element != nil {
		f.list.Remove(s.element)
		s.element = nil
	}
}
