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
)

// Object names an object of the API.
type Object struct {
	APIVersion, Kind string
	ObjectName
	UID types.UID
}
