// SPDX-License-Identifier: Apache-2.0

package app

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/story"
	"github.com/nftproxy/nftproxy/printable"
	"github.com/nftproxy/nftproxy/reason"
	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/wire"
)

// teller puts stories into words.
type teller struct {
	table    string
	silent   func() []netip.AddrPort                            // endpoints that do not answer, where failover is on
	rejects  func(story.Place) bool                             // whether a rule refuses and does not drop
	routable func(to netip.Addr) error                          // why the node has no route; nil: it has one
	rewrites func(story.Step) bool                              // whether another program's chain may rewrite destinations
	nameAt   func(rules.Frontend) (rules.ServicePortName, bool) // who is served at a frontend
}

// storyLine is a story as JSON. Texts are printable.
type storyLine struct {
	Time time.Time `json:"time"`
	sentLine
	Service string        `json:"service,omitempty"` // namespace/name; empty: not known, or none
	Port    string        `json:"port,omitempty"`
	Outcome story.Outcome `json:"outcome"`
	// Endpoint is where it was sent; empty: its destination was not rewritten.
	Endpoint string `json:"endpoint,omitempty"`
	// RewrittenBy is the chain of another program that has chosen it; empty: nftproxy has.
	RewrittenBy string `json:"rewrittenBy,omitempty"`
	Masqueraded string `json:"masqueradedAs,omitempty"`
	Again       bool   `json:"sentAgain,omitempty"`
	ending
	Text   string   `json:"text"`
	Chains []string `json:"chains,omitempty"`
}

// ending is where a connection ended, if it did, and why.
type ending struct {
	*story.Place
	Reason reason.Code `json:"reason,omitempty"` // of a rule of ours
}

// sentLine is what the client has sent.
type sentLine struct {
	Protocol string `json:"protocol"`
	From     string `json:"from"`
	To       string `json:"to"`
}

// decide tells rules that refuse from those that drop.
func (t *teller) decide(s *story.Story) {
	if s.Outcome == story.Dropped && s.By.Rule != 0 && (s.By.Table == t.table && rules.ParseChainID(s.By.Chain).Role == rules.ChainNoEndpoints || t.rejects(*s.By)) {
		s.Outcome = story.Rejected
	}
}

// ours says whether it is a Service's connection: to one, or ended or rewritten by our rules.
func (t *teller) ours(s *story.Story) bool {
	_, served := t.nameAt(rules.FrontendAt(s.Sent.Dst, s.Sent.Protocol))
	return served || s.By != nil && s.By.Table == t.table || s.Rewritten() && len(s.Chains(t.table)) > 0
}

// text says what became of a connection.
func (t *teller) text(s *story.Story, c colours) string {
	t.decide(s)
	text := t.outcome(s, c)
	if s.Again() {
		text = "sent again: " + text
	}
	return text
}

// outcome says so of the last attempt.
func (t *teller) outcome(s *story.Story, c colours) string {
	switch s.Outcome {
	case story.Dropped, story.Rejected:
		if s.By.Table == t.table {
			return c.red(dropped(s))
		}
		how := "dropped by "
		if s.Outcome == story.Rejected {
			how = "refused by "
		}
		return t.head(s) + c.red(how+s.By.String())
	case story.NotSent:
		return t.head(s) + c.red(t.notSent(s))
	case story.Answered:
		return t.way(s, c.green) + ": answered"
	case story.Refused:
		return t.way(s, c.red) + ": " + c.red("refused by the endpoint ("+how(s)+")")
	case story.Unreachable:
		return t.way(s, c.red) + ": " + c.red(fmt.Sprintf("%s says that it cannot be reached (%s)", s.Teller, how(s)))
	case story.AnswerDropped:
		return t.way(s, c.red) + ": answered, but " + c.red("the answer was dropped by "+s.By.String())
	case story.NoAnswer:
		if slices.Contains(s.Chains(t.table), rules.ChainFailover.Chain()) {
			text := "no answer from endpoint " + s.Now.Dst.String()
			if !s.Again() { // else text says so
				text = "sent again: " + text
			}
			return c.red(text)
		}
		return t.way(s, c.red) + ": " + c.red(fmt.Sprintf("no answer within %s", story.Patience))
	}
	return "not known: there were more packets than could be followed"
}

// head says where it was being sent when it ended.
func (t *teller) head(s *story.Story) string {
	if !s.Rewritten() {
		return ""
	}
	text := "rewritten to " + s.Now.Dst.String()
	if by := t.rewriter(s); by != "" {
		text += " by " + by
	}
	return text + ", then "
}

// rewriter returns the chain of another program that has rewritten the destination; empty: none has. Where a packet is sent
// again, no chain that translates is met: the first one had met them.
func (t *teller) rewriter(s *story.Story) (by string) {
	if !s.Rewritten() || slices.Contains(s.Chains(t.table), rules.ChainServices.Chain()) {
		return ""
	}
	for _, step := range s.Steps {
		if t.rewrites(step) {
			by = step.String()
		}
	}
	return by
}

// way says where it was sent, and as whom.
func (t *teller) way(s *story.Story, paint func(string) string) string {
	if !s.Rewritten() {
		return "sent on unchanged"
	}
	text := "to endpoint " + paint(s.Now.Dst.String())
	if by := t.rewriter(s); by != "" {
		text = "to " + paint(s.Now.Dst.String()) + ", which " + by + " chose"
	}
	if slices.Contains(t.silent(), s.Now.Dst) {
		text += " (failover tries whether it answers)"
	}
	if s.Masqueraded() {
		return text + ", masqueraded as " + s.Now.Src.Addr().String()
	}
	return text + ", from the client's own address"
}

// notSent says why this node has not sent a packet on, as far as can be told.
func (t *teller) notSent(s *story.Story) string {
	at := "in the hook " + s.Where
	switch {
	case s.Where == wire.TracePrerouting && s.Passed:
		if err := t.routable(s.Now.Dst.Addr()); err != nil {
			return fmt.Sprintf("not sent: no route to %s (%s)", s.Now.Dst.Addr(), printable.Error(err))
		}
		return "not sent: routing refuses it (is forwarding off, or does rp_filter drop it?)"
	case s.Where == wire.TraceOutput && !s.Passed && len(s.Chains(t.table)) > 0:
		return "not sent: no route to the endpoint that was chosen, or its address could not be translated"
	case s.Passed:
		at = "after the hook " + s.Where
	}
	return "lost " + at + ", by no rule of nftables (iptables-legacy, eBPF or a full queue may be the reason)"
}

// how says how a refusal was told.
func how(s *story.Story) string {
	if !s.ICMP.Valid {
		return "RST"
	}
	type key struct {
		v6         bool
		kind, code uint8
	}
	names := map[key]string{
		{false, 3, 0}: "network unreachable", {false, 3, 1}: "host unreachable", {false, 3, 2}: "protocol unreachable", {false, 3, 3}: "port unreachable",
		{false, 3, 9}: "network prohibited", {false, 3, 10}: "host prohibited", {false, 3, 13}: "prohibited", {false, 11, 0}: "time to live exceeded",
		{true, 1, 0}: "no route", {true, 1, 1}: "prohibited", {true, 1, 3}: "address unreachable", {true, 1, 4}: "port unreachable",
		{true, 1, 5}: "source address prohibited", {true, 1, 6}: "route rejected", {true, 3, 0}: "hop limit exceeded",
	}
	return "ICMP " + cmp.Or(names[key{s.Teller.Is6(), s.ICMP.Type, s.ICMP.Code}], fmt.Sprintf("type %d code %d", s.ICMP.Type, s.ICMP.Code))
}

// line returns a story for JSON.
func (t *teller) line(s *story.Story, chains bool) storyLine {
	text := t.text(s, colours{})
	out := storyLine{Time: s.Began, sentLine: sentLine{s.Sent.Protocol.String(), s.Sent.Src.String(), s.Sent.Dst.String()},
		Outcome: s.Outcome, Again: s.Again(), ending: ending{Place: s.By}, Text: text}
	if s.By != nil && s.By.Table == t.table {
		out.Reason = whyDropped(s.By.Chain).Code
	}
	if name, ok := t.nameAt(rules.FrontendAt(s.Sent.Dst, s.Sent.Protocol)); ok && name.Name != "" {
		out.Service, out.Port = name.Service(), printable.Word(name.Port)
	}
	if s.Rewritten() {
		out.Endpoint = s.Now.Dst.String()
	}
	out.RewrittenBy = t.rewriter(s)
	if s.Masqueraded() {
		out.Masqueraded = s.Now.Src.Addr().String()
	}
	if chains {
		for _, step := range s.Steps {
			out.Chains = append(out.Chains, step.String())
		}
	}
	return out
}

// whyDropped says why a chain of ours ends packets. Whether ranges are those that may connect or those that may not the chain does
// not say.
func whyDropped(chain string) reason.Given {
	brief := func(c reason.Code) reason.Given { return reason.Given{Code: c, Text: c.Brief()} }
	switch rules.ParseChainID(chain).Role {
	case rules.ChainNoEndpoints:
		return brief(reason.NoEndpoint)
	case rules.ChainNoLocalEndpoints:
		return brief(reason.NoLocalEndpoint)
	case rules.ChainFirewall:
		return reason.BySourceRanges.With()
	case rules.ChainPostrouting:
		return brief(reason.NoSuchClusterIP)
	}
	return reason.UnknownChain.With(printable.Word(chain))
}

// dropped says how and why a chain of ours has ended a connection.
func dropped(s *story.Story) string {
	why := whyDropped(s.By.Chain)
	switch {
	case why.Code == reason.UnknownChain:
		return "dropped " + why.Text
	case s.Outcome == story.Rejected:
		return "refused: " + why.Text
	}
	return "dropped: " + why.Text
}
