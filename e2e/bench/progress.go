// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"fmt"
	"io"
	"time"
)

// progress tells how far a run is.
type progress struct {
	log    io.Writer
	steps  []step
	took   time.Duration // by the steps that ended in this run
	weight float64       // of those
}

// weight is what a step takes, in comparison: a fixed part, and one that grows.
func (s step) weight() float64 {
	switch {
	case s.peer.packets:
		return 20
	case s.peer.isNftproxy():
		return 30 + float64(s.size)/500
	default:
		return 50 + float64(s.size)/100
	}
}

// left is the weight of what is not done.
func (p *progress) left() float64 {
	var out float64
	for _, s := range p.steps {
		if !s.done {
			out += s.weight()
		}
	}
	return out
}

func (p *progress) begin(s *step) {
	done := 0
	for _, other := range p.steps {
		if other.done {
			done++
		}
	}
	left := ""
	if p.weight > 0 {
		d := time.Duration(p.left() / p.weight * float64(p.took))
		left = fmt.Sprintf(", about %s left", d.Round(10*time.Second))
	}
	fmt.Fprintf(p.log, "[%2d/%d] %d Services, round %d: %s%s\n", done+1, len(p.steps), s.size, s.round+1, s.peer.name, left)
}

func (p *progress) ended(s *step, took time.Duration) {
	p.took += took
	p.weight += s.weight()
	fmt.Fprintf(p.log, "         took %.1f s\n", took.Seconds())
}
