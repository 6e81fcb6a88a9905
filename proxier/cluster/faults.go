// SPDX-License-Identifier: Apache-2.0

package cluster

import "k8s.io/apimachinery/pkg/types"

// Fault is something about an object that somebody should know.
type Fault struct {
	Kind FaultKind
	// About is the object.
	About Object
	// Errs are what of it cannot be used, for the kind Unusable.
	Errs []error
	// Text is more about other kinds.
	Text string
	// More is how many objects there are besides, for the kind Untold.
	More int
}

// FaultKind says what a Fault is about.
type FaultKind uint8

// The kinds of faults.
const (
	// Unusable says that parts of an object cannot be used.
	Unusable FaultKind = iota
	// NotForProxies says that an EndpointSlice is none that a service proxy serves; Text is its address type.
	NotForProxies
	// NodeMissing says that there is no Node object of this node's name.
	NodeMissing
	// NodeGone says that this node's object was deleted.
	NodeGone
	// Untold says that parts of more objects cannot be used than are told of.
	Untold
)

// maxTold is how many Faults are kept until somebody takes them: who changes objects all the time must not fill the memory
// while the kernel is waited for.
const maxTold = 1000

// faults are those that nobody has taken yet.
type faults struct {
	list []Fault
	more int // Unusable ones besides
}

func (l *faults) add(f Fault) {
	if len(l.list) < maxTold {
		l.list = append(l.list, f)
	} else if f.Kind == Unusable {
		l.more++
	}
}

// take returns them, and forgets them.
func (l *faults) take() []Fault {
	out := l.list
	if l.more > 0 {
		out = append(out, Fault{Kind: Untold, More: l.more})
	}
	*l = faults{}
	return out
}

// Object names an object of the API.
type Object struct {
	APIVersion, Kind string
	ObjectName
	UID types.UID
}
