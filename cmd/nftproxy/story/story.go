// SPDX-License-Identifier: Apache-2.0

package story

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/nftproxy/nftproxy/printable"
	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/wire"
)

// Outcome is what became of a connection.
type Outcome string

// What becomes of connections.
const (
	Answered      Outcome = "answered"       // the destination answered
	Refused       Outcome = "refused"        // the destination refused it
	Rejected      Outcome = "rejected"       // a rule refused it
	Dropped       Outcome = "dropped"        // a rule or a policy dropped it
	AnswerDropped Outcome = "answer-dropped" // a rule or a policy dropped the answer
	Unreachable   Outcome = "unreachable"    // a router says that it does not get there; it may be this node
	NotSent       Outcome = "not-sent"       // this node has sent it nowhere, and no rule of nftables is the reason
	NoAnswer      Outcome = "no-answer"      // it was sent, and nothing came back in time
	Unknown       Outcome = "unknown"        // there were more events than could be read
)

// Place is where a packet ended.
type Place struct {
	Family string `json:"family"`
	Table  string `json:"table"`
	Chain  string `json:"chain"`
	// Rule is the handle of the rule, as `nft -a list ruleset` shows it; 0: it was the chain's policy.
	Rule uint64 `json:"rule,omitempty"`
}

// String returns a place as 'inet fw/forward (policy drop)'.
func (p Place) String() string {
	how := "policy drop"
	if p.Rule != 0 {
		how = fmt.Sprintf("rule with handle %d", p.Rule)
	}
	return fmt.Sprintf("%s %s/%s (%s)", printable.Word(p.Family), printable.Word(p.Table), printable.Word(p.Chain), how)
}

// Flow is one direction of a connection.
type Flow struct {
	Protocol rules.Protocol
	Src, Dst netip.AddrPort
}

func (f Flow) reply() Flow { return Flow{f.Protocol, f.Dst, f.Src} }

// Story is what is known of a connection.
type Story struct {
	// Sent is the first packet as the client sent it, Now as it was seen last.
	Sent, Now Flow
	Began     time.Time
	Outcome   Outcome // empty: not decided yet
	// By is where it, or the answer, ended; nil: nowhere.
	By *Place
	// Where is the hook in which it was seen last, Passed says that it came to the end of that.
	Where  string
	Passed bool
	// Teller says who said that it does not get there, and ICMP how; without it a TCP reset did.
	Teller netip.Addr
	ICMP   wire.ICMPHeader
	// Steps are the chains that it met, as 'inet fw/forward', but for the trace's own.
	Steps []Step

	packet
}

// Step is a chain that a packet met.
type Step struct {
	Family, Table, Chain string
}

// String returns a step as 'inet fw/forward'.
func (s Step) String() string {
	return fmt.Sprintf("%s %s/%s", printable.Word(s.Family), printable.Word(s.Table), printable.Word(s.Chain))
}

// packet is what tells the connection's packets from others, and when more is known.
type packet struct {
	origin     string // the hook at which the trace chose it
	seq        uint32
	length     uint16
	connection uint32
	again      bool // it was sent more than once
	decided    time.Time
	asked      int // how often connection tracking was asked
}

// Again says that the client has sent its first packet more than once.
func (s *Story) Again() bool { return s.again }

// Rewritten says whether the destination was rewritten.
func (s *Story) Rewritten() bool { return s.Now.Dst != s.Sent.Dst }

// Masqueraded says whether the source was rewritten.
func (s *Story) Masqueraded() bool { return s.Now.Src.Addr() != s.Sent.Src.Addr() }

// Chains returns the chains of a table that it met.
func (s *Story) Chains(table string) (out []string) {
	for _, step := range s.Steps {
		if step.Table == table {
			out = append(out, step.Chain)
		}
	}
	return out
}

// gone says that the packet has left this node, or was handed to a socket.
func (s *Story) gone() bool {
	return s.Passed && (s.Where == wire.TracePostrouting || s.Where == wire.TraceInput)
}

// event takes in what a rule or chain did with the packet.
func (s *Story) event(e wire.TraceEvent) {
	if e.Table == wire.TraceTable {
		s.Where, s.Passed = hookOf(e.Chain), strings.HasPrefix(e.Chain, wire.TraceLast)
	} else {
		const most = 1000
		step := Step{e.Family, e.Table, e.Chain}
		if !slices.Contains(s.Steps, step) && len(s.Steps) < most {
			s.Steps = append(s.Steps, step)
		}
	}
	if e.Connection != 0 {
		s.connection = e.Connection
	}
	if e.Dropped && s.By == nil { // a rule that refuses has sent its answer before it is told of
		s.Outcome, s.By = Dropped, place(e)
	}
}

func place(e wire.TraceEvent) *Place { return &Place{e.Family, e.Table, e.Chain, e.Rule} }

// answer takes in an answer to the first packet.
func (s *Story) answer(e wire.TraceEvent) {
	switch {
	case s.Outcome != "":
	case e.ICMP.Valid:
		if outcome := icmpOutcome(e, s.Now.Dst.Addr()); outcome != "" {
			s.Outcome, s.Teller, s.ICMP = outcome, e.Src.Addr(), e.ICMP
			if s.Where == wire.TracePrerouting && s.Passed { // this node's routing says so
				s.Outcome = NotSent
			}
		}
	case e.TCP.Flags&wire.FlagRST != 0 && e.TCP.Seq == 0: // RFC 9293, 3.10.7.1: it has no other number where there was no connection
		s.Outcome = Refused
	default:
		s.Outcome = Answered
	}
}

// answerEvent takes in what became of an answer on its way.
func (s *Story) answerEvent(e wire.TraceEvent) {
	if e.Dropped && (s.Outcome == Answered || s.Outcome == Refused || s.Outcome == Unreachable) {
		s.Outcome, s.By = AnswerDropped, place(e)
	}
}

// icmpOutcome returns what an ICMP error about a packet to an address means; nothing if it does not end a connection.
func icmpOutcome(e wire.TraceEvent, to netip.Addr) Outcome {
	const (
		unreachable4, exceeded4, tooLarge4, port4, protocol4 = 3, 11, 4, 3, 2
		unreachable6, exceeded6, port6                       = 1, 3, 4
	)
	h, v6 := e.ICMP, e.Src.Addr().Is6()
	switch {
	case v6 && h.Type == unreachable6 && h.Code == port6, !v6 && h.Type == unreachable4 && (h.Code == port4 || h.Code == protocol4):
		if e.Src.Addr() == to {
			return Refused
		}
		return Unreachable
	case v6 && (h.Type == unreachable6 || h.Type == exceeded6), !v6 && (h.Type == unreachable4 && h.Code != tooLarge4 || h.Type == exceeded4):
		return Unreachable
	}
	return ""
}
