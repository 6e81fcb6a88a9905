// SPDX-License-Identifier: Apache-2.0

package story

import (
	"net/netip"
	"testing"
	"time"

	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/wire"
)

var (
	client   = netip.MustParseAddrPort("10.244.1.7:40000")
	service  = netip.MustParseAddrPort("10.96.0.10:80")
	endpoint = netip.MustParseAddrPort("10.244.2.4:6379")
)

// at is an event of the trace's own chain.
func at(id uint32, chain string, src, dst netip.AddrPort) wire.TraceEvent {
	return wire.TraceEvent{ID: id, Family: "inet", Table: wire.TraceTable, Chain: chain, Policy: true,
		PacketHeader: wire.PacketHeader{Src: src, Dst: dst, Protocol: rules.TCP, TCP: wire.TCPHeader{Seq: 7, Flags: wire.FlagSYN}}}
}

// by returns the event as that of a rule.
func by(e wire.TraceEvent, rule uint64) wire.TraceEvent {
	e.Rule, e.Policy = rule, false
	return e
}

// sent are the events of a packet that leaves the node.
func sent(id uint32) []wire.TraceEvent {
	return []wire.TraceEvent{
		by(at(id, wire.TraceFirst+wire.TracePrerouting, client, service), 1),
		at(id, wire.TraceLast+wire.TracePrerouting, client, endpoint),
		at(id, wire.TraceFirst+wire.TraceForward, client, endpoint),
		at(id, wire.TraceLast+wire.TraceForward, client, endpoint),
		at(id, wire.TraceLast+wire.TracePostrouting, client, endpoint),
	}
}

// reply is the event of an answer with flags.
func reply(flags uint8, seq uint32) wire.TraceEvent {
	e := by(at(99, wire.TraceAnswers+wire.TracePrerouting, endpoint, client), 5)
	e.TCP = wire.TCPHeader{Seq: seq, Flags: flags}
	return e
}

// TestFollower: events make the story, and nothing is told before it is known.
func TestFollower(t *testing.T) {
	dropped := wire.TraceEvent{ID: 1, Family: "inet", Table: "fw", Chain: "forward", Policy: true, Dropped: true}
	early := by(at(99, wire.TraceFirst+wire.TracePrerouting, endpoint, client), 3)
	early.TCP = wire.TCPHeader{Seq: 3, Flags: wire.FlagSYN | wire.FlagACK}
	stray := early
	stray.Src = service
	tracked := func(is Tracked) func(Flow) Tracked { return func(Flow) Tracked { return is } }
	for _, tt := range []struct {
		name    string
		events  []wire.TraceEvent
		lose    bool
		ask     Tracked
		wait    time.Duration // after which it is told
		outcome Outcome
		by      string
	}{
		{"answered", append(sent(1), reply(wire.FlagSYN|wire.FlagACK, 3)), false, Tracked{}, settled, Answered, ""},
		{"refused", append(sent(1), reply(wire.FlagRST|wire.FlagACK, 0)), false, Tracked{}, settled, Refused, ""},
		{"reset after an answer that was lost", append(sent(1), reply(wire.FlagRST, 9)), false, Tracked{}, settled, Answered, ""},
		{"no answer", sent(1), false, Tracked{}, Patience, NoAnswer, ""},
		{"TCP's entry says nothing", sent(1), false, Tracked{Known: true, Answered: true}, Patience, NoAnswer, ""},
		{"dropped by a policy", append(sent(1)[:3], dropped), false, Tracked{}, settled, Dropped, "inet fw/forward (policy drop)"},
		{"a rule refuses after its answer", append(sent(1)[:3], reply(wire.FlagRST|wire.FlagACK, 0), by(dropped, 4)), false, Tracked{}, settled, Dropped, "inet fw/forward (rule with handle 4)"},
		{"an answer that is dropped before connection tracking", append(sent(1), early, by(wire.TraceEvent{ID: 99, Family: "inet", Table: "raw", Chain: "rpf", Dropped: true}, 2)),
			false, Tracked{}, settled, AnswerDropped, "inet raw/rpf (rule with handle 2)"},
		{"an answer to somebody else", append(sent(1), stray), false, Tracked{}, Patience, NoAnswer, ""},
		{"not routed", sent(1)[:2], false, Tracked{}, Patience, NotSent, ""},
		{"lost events", sent(1)[:2], true, Tracked{}, Patience, Unknown, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := NewFollower(tracked(tt.ask))
			now := time.Unix(1000, 0)
			for _, e := range tt.events {
				f.Add(e, now)
			}
			if tt.lose {
				f.Lose()
			}
			var got []*Story
			tell := func(after time.Duration) { f.Tell(now.Add(after), false, func(s *Story) { got = append(got, s) }) }
			if tell(tt.wait - time.Millisecond); len(got) > 0 {
				t.Fatalf("told too early: %+v", got[0])
			}
			tell(tt.wait)
			tell(2 * tt.wait)
			if len(got) != 1 || got[0].Outcome != tt.outcome || got[0].Sent != (Flow{rules.TCP, client, service}) || got[0].Now.Dst != endpoint {
				t.Fatalf("told is %+v, want one that is %s", got, tt.outcome)
			}
			if text := got[0].By; text == nil && tt.by != "" || text != nil && text.String() != tt.by {
				t.Errorf("ended by %v, want %q", text, tt.by)
			}
			if len(f.flows)+len(f.sent)+len(f.packets)+len(f.answers)+len(f.order) > 0 {
				t.Errorf("it keeps what is told: %+v", f)
			}
		})
	}
}

// TestSentAgain: a packet that is sent again with the same end is told once, with another one again; a new connection from the
// same port is another story.
func TestSentAgain(t *testing.T) {
	f := NewFollower(func(Flow) Tracked { return Tracked{} })
	now := time.Unix(1000, 0)
	var got []Outcome
	again := 0
	round := func(seq uint32, events ...wire.TraceEvent) {
		for _, e := range events {
			e.TCP.Seq = max(e.TCP.Seq, seq)
			f.Add(e, now)
		}
		now = now.Add(2 * Patience)
		f.Tell(now, false, func(s *Story) {
			got = append(got, s.Outcome)
			if s.Again() {
				again++
			}
		})
	}
	round(7, sent(1)...)
	round(7, sent(2)...)
	round(7, append(sent(3), reply(wire.FlagSYN|wire.FlagACK, 3))...)
	round(8, sent(4)...)
	want := []Outcome{NoAnswer, Answered, NoAnswer}
	if len(got) != len(want) || got[0] != want[0] || got[1] != want[1] || got[2] != want[2] || again != 1 {
		t.Errorf("told are %v, %d as sent again; want %v, one of them", got, again, want)
	}
}

// TestTold: what was told is remembered for some time, and no longer.
func TestTold(t *testing.T) {
	f := NewFollower(func(Flow) Tracked { return Tracked{} })
	now := time.Unix(1000, 0)
	told := func(after time.Duration) (n int) {
		now = now.Add(after)
		for _, e := range sent(1) {
			f.Add(e, now)
		}
		now = now.Add(Patience)
		f.Tell(now, false, func(*Story) { n++ })
		return n
	}
	if told(0) != 1 || told(remembered-2*Patience) != 0 {
		t.Error("the same packet is told twice, or not at all")
	}
	f.Tell(now.Add(remembered+time.Millisecond), false, nil)
	if len(f.told) > 0 || told(remembered+time.Millisecond) != 1 {
		t.Errorf("%d packets are remembered for too long", len(f.told))
	}
	f.Tell(now.Add(sweepPause/2), false, nil)
	if len(f.told) != 1 {
		t.Errorf("%d packets are remembered, want 1", len(f.told))
	}
}
