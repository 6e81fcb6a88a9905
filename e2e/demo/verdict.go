// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/traffic"
)

// The verdicts on what is as it should be.
const (
	roundRobin = "exact round robin"
	refused    = "refused, as it should"
	unheard    = "no answer, as it should" // of a refusal: the kernel's SCTP takes no ICMPv6 message for one
)

// silence is how long a connection hears nothing that counts as one that nobody answers.
const silence = 600 * time.Millisecond

// client connects from a namespace. A connection whose first packet was lost counts as one without an
// answer. It waits in vain for a refusal that the kernel does not tell of.
func (t target) client(from *netns.NS) traffic.Client {
	c := traffic.Client{NS: from}
	if len(t.backends) == 0 && t.unheard() {
		c.Timeout = silence
	}
	return c
}

// unheard says whether clients do not hear that they are refused.
func (t target) unheard() bool {
	return traffic.Refusal(t.protocol, t.address.Addr()) != traffic.Refused
}

// verdict says what is right about connections that were made one after the
// other, or else what is wrong.
func (t target) verdict(tally traffic.Tally, n int) (text string, ok bool) {
	if len(t.backends) == 0 {
		switch {
		case t.unheard() && tally.TimedOut == n:
			return unheard, true
		case tally.Refused < n:
			return "want refused, got " + outcomes(tally), false
		}
		return refused, true
	}
	err := traffic.ExactRoundRobin(tally.Hits, t.backends, n)
	if err == nil {
		return roundRobin, true
	}
	text = strings.ReplaceAll(err.Error(), "\n", ", ")
	if tally.Answered() < n {
		text += " (" + outcomes(tally) + ")"
	}
	return text, false
}

// outcomes counts the ways in which connections ended.
func outcomes(t traffic.Tally) string {
	var parts []string
	for _, p := range []struct {
		n    int
		what traffic.Outcome
	}{
		{t.Answered(), traffic.Answered}, {t.Refused, traffic.Refused},
		{t.TimedOut, traffic.TimedOut}, {t.Failed, traffic.Failed},
	} {
		if p.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", p.n, p.what))
		}
	}
	if t.Failed > 0 {
		parts = append(parts, t.LastErr.Error())
	}
	return strings.Join(parts, ", ")
}
