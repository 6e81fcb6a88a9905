// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/nftproxy/nftproxy/e2e/traffic"
)

// The verdicts on what is as it should be.
const (
	roundRobin = "exact round robin"
	refused    = "refused, as it should"
)

const (
	// patience is how long a connection may take. It is far more than one does, and
	// less than the second after which TCP sends a lost packet again.
	patience = 600 * time.Millisecond
	// atOnce is how soon a client must hear that its connection is refused.
	atOnce = patience / 2
)

// verdict says what is right about connections that were made one after the
// other, or else what is wrong.
func (t target) verdict(tally traffic.Tally, n int, slowest time.Duration) (text string, ok bool) {
	if len(t.backends) == 0 {
		switch {
		case tally.Refused < n:
			return "want refused, got " + outcomes(tally), false
		case slowest > atOnce:
			return "refused only after " + brief(slowest), false
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
