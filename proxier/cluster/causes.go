// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"slices"
	"time"
)

// mostCauses is how many Causes are named of what has changed at once.
const mostCauses = 5

// Cause is what changed somewhere, so that owners did.
type Cause struct {
	// Kind is that of an object, or one of the Cause* kinds.
	Kind string
	ObjectName
	// What became of it: came, changed or went.
	What string
	// At is when it came in.
	At time.Time
}

// Kinds of causes that are no objects of the API.
const (
	CauseAPIServer = "API server" // this node reaches it elsewhere
	CauseFailover  = "failover"   // an endpoint does not answer, or does again; the name is its Service's
	CauseShares    = "shares"     // open connections or time have changed the endpoints' shares
)

// What becomes of objects.
const (
	causeCame    = "came"
	causeChanged = "changed"
	causeWent    = "went"
)

// Causes are those of some changes: the first few, and how many there are.
type Causes struct {
	List  []Cause
	Count int
}

// add notes a cause.
func (c *Causes) add(kind string, n ObjectName, what string) {
	if c.Count++; len(c.List) < mostCauses {
		c.List = append(c.List, Cause{kind, n, what, time.Now()})
	}
}

// putBack adds those that were taken before.
func (c *Causes) putBack(was Causes) {
	list := slices.Concat(was.List, c.List)
	c.List, c.Count = list[:min(len(list), mostCauses)], c.Count+was.Count
}

// became says what an object has become that was there, or is.
func became(was, is bool) string {
	switch {
	case !was:
		return causeCame
	case !is:
		return causeWent
	}
	return causeChanged
}
