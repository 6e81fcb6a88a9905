// SPDX-License-Identifier: Apache-2.0

package proxier

import (
	"cmp"
	"errors"
	"iter"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/rules"
)

// How many owners that were set aside are tried again at once, and how long after others.
const (
	retryBatch = 10
	retryPause = time.Second
)

// aside knows the owners whose objects the kernel refuses, and when they are tried again.
type aside struct {
	failing map[rules.Owner]*failure
	retried time.Time // when some were tried last
}

// failure is an owner whose objects the kernel refused.
type failure struct {
	backoff
	next time.Time
}

func newAside() aside { return aside{failing: map[rules.Owner]*failure{}} }

// refusal is a transaction that the kernel refused, or an owner that was set aside because of one.
type refusal struct {
	err error
	// servicePorts is how many the transaction was about.
	servicePorts int
	// loading says that it was to fill an empty kernel, which is read back.
	loading bool
	// owner was set aside; without a name: none. It is tried again after wait.
	owner rules.Owner
	wait  time.Duration
}

// refused notes that the kernel refuses an owner's objects, and says how long until it is tried again.
func (a *aside) refused(o rules.Owner, err error) refusal {
	return refusal{err: err, owner: o, wait: a.put(o)}
}

// put sets an owner aside, and returns how long until it is tried again.
func (a *aside) put(o rules.Owner) time.Duration {
	f := a.failing[o]
	if f == nil {
		f = &failure{}
		a.failing[o] = f
	}
	wait := f.backoff.next()
	f.next = time.Now().Add(wait)
	return wait
}

// forget is for owners that the kernel has taken.
func (a *aside) forget(list []rules.Owned) {
	for i := range list {
		delete(a.failing, list[i].Owner)
	}
}

// waiting returns who is set aside, and when each is tried again; nil: nobody.
func (a *aside) waiting() (out map[rules.Owner]time.Time) {
	if len(a.failing) > 0 {
		out = make(map[rules.Owner]time.Time, len(a.failing))
	}
	for o, f := range a.failing {
		out[o] = f.next
	}
	return out
}

// choose returns which of the changed owners, each with whether it is gone, are programmed now, and which of those that the kernel refused before are
// tried again, when their time has come or they have changed. These come a few at a time: they must hold up nobody else.
func (a *aside) choose(changed iter.Seq2[rules.Owner, bool]) (good, again []rules.Owner) {
	now := time.Now()
	going := map[rules.Owner]bool{}
	for o, gone := range changed {
		f := a.failing[o]
		if f == nil || gone { // what goes is not refused
			good = append(good, o)
			if f != nil {
				going[o] = true
			}
		} else if now.Before(f.next) {
			f.next = now
		}
	}
	if now.Before(a.retried.Add(retryPause)) {
		return good, nil
	}
	for o, f := range a.failing {
		if !now.Before(f.next) && !going[o] {
			again = append(again, o)
		}
	}
	slices.SortFunc(again, func(x, y rules.Owner) int {
		return cmp.Or(a.failing[x].next.Compare(a.failing[y].next), x.Compare(y))
	})
	again = again[:min(len(again), retryBatch)]
	if len(again) > 0 {
		a.retried = now
	}
	return good, again
}

// nextRetry returns when the first owner that was set aside is to be tried again; false: there is none.
func (a *aside) nextRetry() (time.Duration, bool) {
	if len(a.failing) == 0 {
		return 0, false
	}
	var first time.Time
	for _, f := range a.failing {
		if first.IsZero() || f.next.Before(first) {
			first = f.next
		}
	}
	if again := a.retried.Add(retryPause); first.Before(again) {
		first = again
	}
	return max(time.Until(first), time.Millisecond), true
}

// general says that an error is about the kernel or our rights, whatever it was that we wanted.
func general(err error) bool {
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return false
	}
	switch errno {
	case unix.ENOMEM, unix.ENOBUFS, unix.EPERM, unix.EACCES, unix.EAGAIN:
		return true
	}
	return false
}

// untouched says that the kernel surely holds what it held before.
func untouched(err error) bool { return rules.RefusalOf(err).Untouched }

// suspicious says that an error may come from what somebody else changed.
func suspicious(err error) bool {
	var errno syscall.Errno
	return !errors.As(err, &errno) || errno == unix.ENOENT || errno == unix.EEXIST || errno == unix.EBUSY
}

// culprits splits owners into those whose objects an error names, of what they have or had before, and the others.
func culprits(builds []rules.Owned, before func(rules.Owner) rules.Objects, err error) (bad, rest []rules.Owned) {
	objects := rules.NewObjectSet(rules.RefusalOf(err).Objects)
	for _, b := range builds {
		if f := b.Owner.Family; objects.Any(f, b.Objects) || objects.Any(f, before(b.Owner)) {
			bad = append(bad, b)
		} else {
			rest = append(rest, b)
		}
	}
	return bad, rest
}
