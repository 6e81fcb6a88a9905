// SPDX-License-Identifier: Apache-2.0

package failover

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/nftproxy/nftproxy/rules"
)

// Config says when endpoints are ejected, and for how long. Its zero value is useful.
type Config struct {
	// Threshold is how many connections an endpoint leaves unanswered before it is ejected. Default: 3.
	Threshold int
	// Share is which part of a service port's endpoints may be ejected, in percent. Default: rules.DefaultEjectedShare.
	Share int
	// Window is how long an unanswered connection counts. Default: 5 seconds.
	Window time.Duration
	// First is how long an endpoint gets no new connections before it is tried, Longest how long at most, as that is doubled at
	// each failure. Default: 10 seconds and 5 minutes.
	First, Longest time.Duration
	// Trial is how long a trial waits for a connection, before the endpoint is back without one. Default: 30 seconds.
	Trial time.Duration
	// InUse is how long an endpoint that answered, or was ejected, counts as one that connections go to. Default: 10 seconds.
	InUse time.Duration
}

// WithDefaults returns c with its zero fields set to their defaults.
func (c Config) WithDefaults() Config {
	c.Threshold = cmp.Or(c.Threshold, 3)
	c.Share = cmp.Or(c.Share, rules.DefaultEjectedShare)
	c.Window = cmp.Or(c.Window, 5*time.Second)
	c.First, c.Longest = cmp.Or(c.First, 10*time.Second), cmp.Or(c.Longest, 5*time.Minute)
	c.Trial = cmp.Or(c.Trial, 30*time.Second)
	c.InUse = cmp.Or(c.InUse, 10*time.Second)
	return c
}

// Endpoint is an endpoint of a service port.
type Endpoint struct {
	rules.Owner
	At rules.Backend
}

// Compare orders endpoints.
func (e Endpoint) Compare(o Endpoint) int {
	return cmp.Or(e.Owner.Compare(o.Owner), e.At.Addr.Compare(o.At.Addr), cmp.Compare(e.At.Protocol, o.At.Protocol))
}

// Change is what becomes of an endpoint.
type Change struct {
	Endpoint
	// Kind says what.
	Kind Kind
	// For is how long it is ejected at least.
	For time.Duration
}

// Kind is a kind of Change.
type Kind uint8

// The kinds.
const (
	Ejected Kind = iota + 1 // it did not answer, and gets no new connections
	Tried                   // the next connection tries it
	Failed                  // nor did it answer that one
	Back                    // it answered, or nobody has tried it, or there are fewer endpoints
	Freed                   // it is back because so many others do not answer, either
)

// Counts says how many endpoints there are of which something is known, each address counted once.
type Counts struct {
	InUse   int // connections went there of late
	Suspect int // and were not answered; those that were ejected of late are among them
	// Trouble says that more than half of those in use are suspect, two at least, so that nothing is ejected.
	Trouble bool
	// Out is how many are ejected, in each service port, those that are tried included.
	Out int
}

// phase is what an endpoint is in.
type phase uint8

const (
	watched phase = iota
	ejected
	tried
)

// state is what is known of an endpoint that left connections unanswered.
type state struct {
	phase    phase
	failures map[netip.AddrPort]time.Time // by client; Threshold of them at most
	since    time.Time                    // of the phase; for watched it is not used
	out      time.Time                    // when it was ejected first
	period   time.Duration                // of ejection
}

// Machine decides. It is for one goroutine at a time.
type Machine struct {
	config    Config
	endpoints map[Endpoint]*state
	answered  map[rules.Backend]time.Time // the last time
	counts    Counts
	trouble   time.Time // until then there is
}

// New returns a Machine that has seen nothing yet.
func New(c Config) *Machine {
	return &Machine{config: c.WithDefaults(), endpoints: map[Endpoint]*state{}, answered: map[rules.Backend]time.Time{}}
}

// Answers says whether an endpoint has answered of late.
func (m *Machine) Answers(a rules.Backend) bool {
	_, ok := m.answered[a]
	return ok
}

// Idle says whether nothing is known that time may change.
func (m *Machine) Idle() bool { return len(m.endpoints) == 0 }

// Unanswered notes that a client's first packet, sent again at a time, is still not answered by an endpoint.
func (m *Machine) Unanswered(e Endpoint, client netip.AddrPort, at time.Time) {
	s := m.endpoints[e]
	if s == nil {
		s = &state{failures: map[netip.AddrPort]time.Time{}}
		m.endpoints[e] = s
	}
	s.failures[client] = at
	if len(s.failures) <= m.config.Threshold {
		return
	}
	oldest := client
	for c, at := range s.failures {
		if d := at.Compare(s.failures[oldest]); d < 0 || d == 0 && c.Compare(oldest) < 0 {
			oldest = c
		}
	}
	delete(s.failures, oldest)
}

// Answered notes that an endpoint answered somebody at a time.
func (m *Machine) Answered(a rules.Backend, at time.Time) {
	if at.After(m.answered[a]) {
		m.answered[a] = at
	}
}

// Decide says what becomes of endpoints now, in an order that is always the same. usable returns all addresses that a service
// port may send connections to, ejected ones included; none if it has no failover.
func (m *Machine) Decide(now time.Time, usable func(rules.Owner) []netip.AddrPort) (out []Change) {
	maps.DeleteFunc(m.answered, func(a rules.Backend, at time.Time) bool { return now.Sub(at) > rules.AnsweringSeconds*time.Second })
	change := func(e Endpoint, k Kind) {
		out = append(out, Change{e, k, m.endpoints[e].period})
	}
	owners := map[rules.Owner][]netip.AddrPort{}
	for e := range m.endpoints {
		if _, ok := owners[e.Owner]; !ok {
			owners[e.Owner] = usable(e.Owner)
		}
	}
	for _, e := range m.sorted() {
		s := m.endpoints[e]
		maps.DeleteFunc(s.failures, func(_ netip.AddrPort, at time.Time) bool { return now.Sub(at) > m.config.Window })
		if !slices.Contains(owners[e.Owner], e.At.Addr) || m.seen(e, s) || m.untried(s, now) {
			if s.phase != watched {
				change(e, Back)
			}
			delete(m.endpoints, e)
			continue
		}
		if s.phase == watched && len(s.failures) == 0 {
			delete(m.endpoints, e)
		}
	}
	if m.count(now); m.counts.Trouble {
		for _, e := range m.sorted() {
			if s := m.endpoints[e]; s.phase != watched {
				change(e, Freed)
				s.phase = watched
			}
		}
		m.counts.Out = 0
		return out
	}
	return append(out, m.move(now, owners)...)
}

// sorted returns the endpoints of which something is known: those that were ejected first, and first of all those that are.
func (m *Machine) sorted() []Endpoint {
	return slices.SortedFunc(maps.Keys(m.endpoints), func(a, b Endpoint) int {
		x, y := m.endpoints[a], m.endpoints[b]
		if (x.phase == watched) != (y.phase == watched) {
			return cmp.Compare(y.phase, x.phase)
		}
		return cmp.Or(x.out.Compare(y.out), a.Compare(b))
	})
}

// waited is how long a client has waited at least when it sends its first packet again (RFC 6298 has 1 s), with some room for
// clocks that differ. An endpoint that answered somebody meanwhile is there: that one packet was lost.
const waited = 900 * time.Millisecond

// seen forgets failures of connections that began before the endpoint's last answer, and says whether it was away and is not any more.
func (m *Machine) seen(e Endpoint, s *state) bool {
	last, ok := m.answered[e.At]
	if !ok {
		return false
	}
	maps.DeleteFunc(s.failures, func(_ netip.AddrPort, at time.Time) bool { return !at.Add(-waited).After(last) })
	return s.phase != watched && last.After(s.out)
}

// untried says whether nobody has connected to an endpoint that is tried.
func (m *Machine) untried(s *state, now time.Time) bool {
	return s.phase == tried && len(s.failures) == 0 && now.Sub(s.since) >= m.config.Trial
}

// count counts endpoints. Nobody connects to those that are ejected: what is known of them is as old as their ejection. Where clients
// rest nobody answers, either, and that is no trouble.
func (m *Machine) count(now time.Time) {
	suspects, inUse := map[rules.Backend]bool{}, map[rules.Backend]bool{}
	m.counts.Out = 0
	for e, s := range m.endpoints {
		if s.phase != watched {
			m.counts.Out++
		}
		if s.phase == ejected && now.Sub(s.since) <= m.config.InUse || m.next(s, now) == Failed || len(s.failures) >= m.config.Threshold {
			suspects[e.At], inUse[e.At] = true, true
		}
	}
	for a, at := range m.answered {
		if now.Sub(at) <= m.config.InUse {
			inUse[a] = true
		}
	}
	m.counts.InUse, m.counts.Suspect = len(inUse), len(suspects)
	if len(suspects) > 1 && 2*len(suspects) > len(inUse) { // one alone may be the only one that anybody connects to just now
		m.trouble = now.Add(m.config.First) // what is back needs some time to be suspect again
	}
	m.counts.Trouble = now.Before(m.trouble)
}

// move moves endpoints between phases.
func (m *Machine) move(now time.Time, owners map[rules.Owner][]netip.AddrPort) (out []Change) {
	left := map[rules.Owner]int{} // how many more may be ejected
	for o, list := range owners {
		left[o] = rules.MostEjected(len(list), m.config.Share)
	}
	for _, e := range m.sorted() {
		s := m.endpoints[e]
		to := m.next(s, now)
		if s.phase != watched || to == Ejected {
			if left[e.Owner]--; left[e.Owner] < 0 {
				if s.phase != watched {
					out = append(out, Change{e, Back, s.period})
					delete(m.endpoints, e)
				}
				continue
			}
		}
		if to == 0 {
			continue
		}
		m.enter(s, to, now)
		out = append(out, Change{e, to, s.period})
	}
	m.count(now)
	return out
}

// next says what becomes of an endpoint; 0: it stays as it is.
func (m *Machine) next(s *state, now time.Time) Kind {
	switch {
	case s.phase == watched && len(s.failures) >= m.config.Threshold:
		return Ejected
	case s.phase == ejected && now.Sub(s.since) >= s.period:
		return Tried
	case s.phase == tried && s.failedSince():
		return Failed
	}
	return 0
}

// failedSince says whether a connection was not answered since the trial began.
func (s *state) failedSince() bool {
	for _, at := range s.failures {
		if !at.Before(s.since) {
			return true
		}
	}
	return false
}

// enter begins a phase.
func (m *Machine) enter(s *state, k Kind, now time.Time) {
	s.since, s.phase = now, ejected
	switch k {
	case Ejected:
		s.period, s.out = m.config.First, now
	case Failed:
		s.period = min(2*s.period, m.config.Longest)
	case Tried:
		s.phase = tried
	}
	clear(s.failures)
}

// Counts returns how many endpoints there are, as of the last decision.
func (m *Machine) Counts() Counts { return m.counts }

// Of returns the endpoints of a service port that are ejected, in the order in which they were.
func (m *Machine) Of(o rules.Owner) (out []rules.Ejected) {
	var list []Endpoint
	for e, s := range m.endpoints {
		if e.Owner == o && s.phase != watched {
			list = append(list, e)
		}
	}
	slices.SortFunc(list, func(a, b Endpoint) int {
		return cmp.Or(m.endpoints[a].out.Compare(m.endpoints[b].out), a.Compare(b))
	})
	for _, e := range list {
		out = append(out, rules.Ejected{Addr: e.At.Addr, Trial: m.endpoints[e].phase == tried})
	}
	return out
}
