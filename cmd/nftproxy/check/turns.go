// SPDX-License-Identifier: Apache-2.0

package check

import (
	"github.com/nftproxy/nftproxy/lock"
	"github.com/nftproxy/nftproxy/printable"
)

// turns shows which nftproxy writes the tables, and which ones wait for that, in whatever containers they are.
func (n *Node) turns(r *Report) {
	const what = "one at a time"
	s, err := lock.Look(n.Table)
	switch {
	case err != nil:
		r.fail(what, printable.Error(err))
	case s.Holder == nil:
		r.ok(what, "no nftproxy writes table "+n.Table)
	case s.Doubt != nil:
		r.warning(what, s.Holder.Describe()+" writes table "+n.Table+"; no more is known of it: "+printable.Error(s.Doubt))
	default:
		r.ok(what, s.Holder.Describe()+" writes table "+n.Table)
	}
	for _, p := range s.Waiting {
		if p.Ready {
			r.ok(what, p.Describe()+" waits, ready to take over")
		} else {
			r.warning(what, p.Describe()+" waits, and is not ready to take over yet")
		}
	}
}
