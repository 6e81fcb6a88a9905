// SPDX-License-Identifier: Apache-2.0

package story

import (
	"strings"
	"time"

	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/wire"
)

// Limits of what is kept.
const (
	mostOpen = 20000 // stories that are not told yet
	mostTold = 20000 // stories that were told, so that packets that are sent again are known
)

// Times.
const (
	// Patience is how long an answer may take.
	Patience = time.Second
	// settled is how long nothing more comes of a packet that has ended, or of an answer.
	settled = 20 * time.Millisecond
	// remembered is how long it is known that a story was told.
	remembered = 2 * time.Minute
	// sweepPause is how often what is not remembered any more goes: not at each of the moments at which stories are told.
	sweepPause = time.Second
)

// Tracked is what connection tracking knows of a connection.
type Tracked struct {
	// Known says that there is such a connection.
	Known    bool
	Answered bool
	// Reply is what answers look like on arrival.
	Reply Flow
}

// Follower makes stories of events. It is for one goroutine.
type Follower struct {
	// Ask returns what connection tracking knows of what a client has sent.
	Ask func(sent Flow) Tracked

	packets map[uint32]*Story // by the kernel's number of a packet
	answers map[uint32]*Story
	flows   map[Flow]*Story // by Now
	sent    map[Flow]*Story // by Sent
	order   []*Story        // by their beginning
	told    map[Flow]*told
	swept   time.Time
	lost    bool // events, since order was empty last
}

// told is a story that was told.
type told struct {
	at      time.Time
	outcome Outcome
	by      Place
	now     Flow
	seq     uint32
}

// NewFollower returns a Follower that has seen nothing.
func NewFollower(ask func(Flow) Tracked) *Follower {
	return &Follower{Ask: ask, packets: map[uint32]*Story{}, answers: map[uint32]*Story{}, flows: map[Flow]*Story{}, sent: map[Flow]*Story{}, told: map[Flow]*told{}}
}

// Lose says that events were lost: of connections that are not decided nothing is known.
func (f *Follower) Lose() { f.lost = len(f.order) > 0 }

// Add takes in an event.
func (f *Follower) Add(e wire.TraceEvent, now time.Time) {
	flow := Flow{e.Protocol, e.Src, e.Dst}
	headed := e.Src.IsValid() && !e.ICMP.Valid
	chosen := e.Table == wire.TraceTable && e.Rule != 0
	if chosen && (strings.HasPrefix(e.Chain, wire.TraceAnswers) || e.TCP.Flags&(wire.FlagSYN|wire.FlagACK) == wire.FlagSYN|wire.FlagACK) {
		delete(f.packets, e.ID)
		delete(f.answers, e.ID)
		if s := f.answered(e, flow); s != nil {
			s.answer(e)
			s.noteDecision(now)
			f.answers[e.ID] = s
		}
		return
	}
	if s := f.answers[e.ID]; s != nil && !chosen {
		s.answerEvent(e)
		return
	}
	s := f.packets[e.ID]
	switch {
	case chosen && headed:
		delete(f.answers, e.ID)
		s = f.begin(flow, e, now)
	case s == nil && headed:
		s = f.flows[flow] // on the loopback interface a packet gets another number
	}
	if s == nil {
		return
	}
	f.packets[e.ID] = s
	if headed && s.Now != flow {
		f.unindex(s)
		s.Now = flow
		f.flows[flow] = s
	}
	s.event(e)
	s.noteDecision(now)
}

func (s *Story) noteDecision(now time.Time) {
	if s.Outcome != "" && s.decided.IsZero() {
		s.decided = now
	}
}

// begin returns the story of a packet that was chosen: one that is open, if it is sent again or comes by again.
func (f *Follower) begin(flow Flow, e wire.TraceEvent, now time.Time) *Story {
	hook := hookOf(e.Chain)
	if s := f.flows[flow]; s != nil {
		s.again = s.again || flow == s.Sent && hook == s.origin // else it comes by on the loopback interface
		return s
	}
	if s := f.sent[flow]; s != nil {
		s.again = true
		return s
	}
	s := &Story{Sent: flow, Now: flow, Began: now, packet: packet{origin: hook, seq: e.TCP.Seq, length: e.Length}}
	f.order = append(f.order, s)
	f.flows[flow], f.sent[flow] = s, s
	return s
}

// hookOf returns the hook of a chain of the trace's own.
func hookOf(chain string) string {
	_, hook, _ := strings.Cut(chain, "-")
	return hook
}

// answered returns the story that an answer belongs to; nil: none.
func (f *Follower) answered(e wire.TraceEvent, flow Flow) *Story {
	if !e.ICMP.Valid {
		return f.flows[flow.reply()]
	}
	var found *Story
	for _, s := range f.order {
		switch {
		case s.Outcome != "", s.Sent.Protocol != e.ICMP.Protocol && e.ICMP.Protocol != 0:
		case s.Now.Src.Addr() != e.Dst.Addr() && s.Sent.Src.Addr() != e.Dst.Addr():
		case e.Connection != 0 && s.connection != 0:
			if s.connection == e.Connection {
				return s
			}
		case s.length != e.ICMP.Length && e.ICMP.Length != 0:
		case found == nil:
			found = s
		case found.Now.Dst != s.Now.Dst: // it may be about either
			return nil
		}
	}
	return found
}

func (f *Follower) unindex(s *Story) {
	if f.flows[s.Now] == s {
		delete(f.flows, s.Now)
	}
}

// Tell calls fn for each story that is decided, or that has had its time; for all if it is the end.
func (f *Follower) Tell(now time.Time, end bool, fn func(*Story)) {
	rest := f.order[:0]
	for i, s := range f.order {
		full := len(f.order)-i > mostOpen
		if !f.due(s, now, end || full) {
			rest = append(rest, s)
			continue
		}
		if full && s.Outcome == "" {
			s.Outcome = Unknown
		}
		f.forget(s)
		if f.news(s, now) {
			fn(s)
		}
	}
	clear(f.order[len(rest):])
	f.order = rest
	if len(rest) == 0 { // their numbers are used again
		clear(f.packets)
		clear(f.answers)
		f.lost = false
	}
	if now.Sub(f.swept) < sweepPause && len(f.told) <= mostTold {
		return
	}
	f.swept = now
	for flow, t := range f.told {
		if now.Sub(t.at) > remembered || len(f.told) > mostTold {
			delete(f.told, flow)
		}
	}
}

// due says whether a story can be told, and decides it if it has had its time.
func (f *Follower) due(s *Story, now time.Time, end bool) bool {
	if s.Outcome != "" {
		return end || now.Sub(s.decided) >= settled
	}
	age := now.Sub(s.Began)
	if asks := [...]time.Duration{settled, 5 * settled, 15 * settled, Patience}; end || s.asked < len(asks) && age >= asks[s.asked] {
		s.asked++
		f.ask(s)
	}
	if s.Outcome == "" && (end || age >= Patience) {
		s.Outcome = NoAnswer
		switch {
		case f.lost:
			s.Outcome = Unknown
		case !s.gone():
			s.Outcome = NotSent
		}
	}
	s.noteDecision(now)
	return s.Outcome != "" && (end || s.Outcome == Answered || age >= Patience)
}

// ask asks connection tracking.
func (f *Follower) ask(s *Story) {
	t := f.Ask(s.Sent)
	if !t.Known {
		return
	}
	if t.Reply.Src.IsValid() && !s.Rewritten() && s.gone() {
		s.Now.Dst = t.Reply.Src
	}
	if t.Answered && s.Sent.Protocol != rules.TCP { // of TCP a reset is an answer, too: events tell
		s.Outcome = Answered
	}
}

// forget forgets a story that is told.
func (f *Follower) forget(s *Story) {
	f.unindex(s)
	if f.sent[s.Sent] == s {
		delete(f.sent, s.Sent)
	}
}

// news says whether a story says more than one that was told of the same packet, which the client sends again.
func (f *Follower) news(s *Story, now time.Time) bool {
	is := &told{at: now, outcome: s.Outcome, now: s.Now, seq: s.seq}
	if s.By != nil {
		is.by = *s.By
	}
	was := f.told[s.Sent]
	f.told[s.Sent] = is
	if was == nil || was.seq != is.seq {
		return true
	}
	s.again = true
	return was.outcome != is.outcome || was.by != is.by || was.now != is.now
}
