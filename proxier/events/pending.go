// SPDX-License-Identifier: Apache-2.0

package events

import (
	"sync"

	corev1 "k8s.io/api/core/v1"
)

// maxSubjects is how many subjects are remembered.
const maxSubjects = 4096

// subject is what the library tells events apart by, as far as ours differ.
type subject struct {
	about  corev1.ObjectReference
	reason string
}

// pending knows which warnings are on their way to the API server, so that Close can wait for them. Only the first
// one of a subject is known of: the library may merge later ones into that.
type pending struct {
	mu      sync.Mutex
	sent    map[subject]bool // false: on its way
	waiting int              // how many are
	closed  bool
	empty   chan struct{} // closed when closed and none is waiting
}

func newPending() *pending {
	return &pending{sent: map[subject]bool{}, empty: make(chan struct{})}
}

// add notes a warning; false: it comes too late.
func (p *pending) add(s subject) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	if _, known := p.sent[s]; known {
		return true
	}
	if len(p.sent) >= maxSubjects {
		clear(p.sent)
		p.waiting = 0
	}
	p.sent[s] = false
	p.waiting++
	return true
}

// done notes that a warning was sent, or could not be.
func (p *pending) done(s subject) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if sent, known := p.sent[s]; !known || sent {
		return
	}
	p.sent[s] = true
	p.waiting--
	p.signal()
}

// close lets no more in, and returns what is closed when none is waiting.
func (p *pending) close() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	p.signal()
	return p.empty
}

func (p *pending) signal() {
	if p.closed && p.waiting == 0 {
		close(p.empty)
	}
}
