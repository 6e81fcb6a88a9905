// SPDX-License-Identifier: Apache-2.0

package proxier

import (
	"cmp"
	"errors"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"github.com/nftproxy/nftproxy/rules"
)

// Noted reads the sets that packets fill. rules/inspect does so in the running kernel.
type Noted interface {
	// Filled calls fn for each element that packets have put into a set, with what is left of its time.
	Filled(table string, f rules.Family, kind rules.SetKind, fn func(rules.Element, rules.Lifetime)) error
	// Lookup returns the value of an element; false if there is none.
	Lookup(table string, f rules.Family, id rules.SetID, key rules.Key) (rules.Value, bool, error)
}

// answerTime is how long a packet that was sent again may be without an answer before its connection is freed. It is shorter
// than the client's next pause, of which the least is a second.
const answerTime = 200 * time.Millisecond

// unanswered is a connection whose first packet was sent again.
type unanswered struct {
	client rules.Key // its address, protocol and port
	to     netip.AddrPort
	when   time.Time // it was sent again
}

func (u *unanswered) from() netip.AddrPort { return netip.AddrPortFrom(u.client.Addr, u.client.Port) }

// noted reads what packets have noted.
type noted struct {
	kernel Noted
	table  string
	// known are the elements of the last look: how much of their time was left, and whether they were told of.
	known map[rules.Key]*notedElement
}

type notedElement struct {
	left time.Duration
	told bool
}

func newNoted(k Noted, table string) noted {
	return noted{k, table, map[rules.Key]*notedElement{}}
}

// unanswered returns connections whose first packet was sent again and has no answer for a while, each once for each time
// that it was noted.
func (n *noted) unanswered() (out []unanswered, err error) {
	var errs []error
	seen := make(map[rules.Key]bool, len(n.known))
	for _, f := range rules.Families {
		errs = append(errs, n.kernel.Filled(n.table, f, rules.Unanswered, func(e rules.Element, l rules.Lifetime) {
			left := time.Duration(l.Expires) * time.Millisecond //nolint:gosec // less than the set's time-out
			k := n.known[e.Key]
			if k == nil || left > k.left { // it is new, or was noted again after its time
				k = &notedElement{}
				n.known[e.Key] = k
			}
			k.left, seen[e.Key] = left, true
			age := time.Duration(l.Timeout)*time.Millisecond - left //nolint:gosec // the set's time-out
			if k.told || age < answerTime {
				return
			}
			k.told = true
			out = append(out, unanswered{e.Key, e.To, time.Now().Add(-age)})
		}))
	}
	for k := range n.known {
		if !seen[k] {
			delete(n.known, k)
		}
	}
	slices.SortFunc(out, func(a, b unanswered) int { return cmp.Or(a.when.Compare(b.when), a.from().Compare(b.from())) })
	return out, errors.Join(errs...)
}

// answering tells when endpoints have answered.
func (n *noted) answering(fn func(rules.Backend, time.Time)) error {
	var errs []error
	for _, f := range rules.Families {
		errs = append(errs, n.kernel.Filled(n.table, f, rules.Answering, func(e rules.Element, l rules.Lifetime) {
			age := time.Duration(l.Timeout-l.Expires) * time.Millisecond //nolint:gosec // less than the set's time-out
			fn(rules.Backend{Protocol: e.Protocol, Addr: netip.AddrPortFrom(e.Addr, e.Key.Port)}, time.Now().Add(-age))
		}))
	}
	return errors.Join(errs...)
}

// gone says whether the kernel has refused to delete what is not there.
func gone(err error) bool {
	var errno syscall.Errno
	return errors.As(err, &errno) && errno == syscall.ENOENT
}
