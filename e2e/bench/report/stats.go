// SPDX-License-Identifier: Apache-2.0

package report

import (
	"math"
	"slices"

	"github.com/aclements/go-moremath/stats"
)

// enough is the number of samples from which on quantiles far out mean something.
const enough = 20

// sample is a set of samples of one thing, by round.
type sample struct {
	all    stats.Sample // sorted
	rounds []float64    // the median of each
	turns  []float64    // where it is compared with a node without rules: that of each turn
}

// sample collects the samples of a metric; its parts are added up, sample by sample,
// for a metric that is a sum.
func (r *Results) sample(peer string, services int, target string, parts ...string) sample {
	s := sample{}
	for round := range r.Plan.Rounds {
		var sum []float64
		for i, metric := range parts {
			values := r.round(metric, peer, services, target, round)
			if i == 0 {
				sum = values
				continue
			}
			sum = sum[:min(len(sum), len(values))]
			for j := range sum {
				sum[j] += values[j]
			}
		}
		if len(sum) > 0 {
			s.rounds = append(s.rounds, quantile(sum, 0.5))
			s.all.Xs = append(s.all.Xs, sum...)
		}
	}
	s.all.Sort()
	return s
}

// round returns a copy of the samples of one round.
func (r *Results) round(metric, peer string, services int, target string, round int) []float64 {
	var out []float64
	for _, m := range r.Measurements {
		if m.Metric == metric && m.Peer == peer && m.Services == services && m.Target == target && m.Round == round {
			out = append(out, m.Samples...)
		}
	}
	return out
}

func (s sample) n() int                     { return len(s.all.Xs) }
func (s sample) quantile(q float64) float64 { return s.all.Quantile(q) }
func (s sample) median() float64            { return s.quantile(0.5) }

// bounds returns the smallest and the largest sample.
func (s sample) bounds() (low, high float64) { return s.all.Bounds() }

// noise is how far apart the medians of the rounds are, in parts of the median: NaN with one round.
func (s sample) noise() float64 {
	if len(s.rounds) < 2 {
		return math.NaN()
	}
	if s.median() == 0 {
		return 0
	}
	return (slices.Max(s.rounds) - slices.Min(s.rounds)) / math.Abs(s.median())
}

// spread is where the middle half of the turns is; false if there are too few to say.
func (s sample) spread() (low, high float64, ok bool) {
	if len(s.turns) < 4 {
		return 0, 0, false
	}
	return quantile(s.turns, 0.25), quantile(s.turns, 0.75), true
}

// tooWide is how wide the spread of turns may be, as a part of the figure, for it to say anything.
const tooWide = 0.25

// noisy says that the turns are too far apart for a figure.
func (s sample) noisy() bool {
	low, high, ok := s.spread()
	return ok && high-low > tooWide*s.median()
}

// overlaps says that two figures may be the same: their spreads have something in common, of turns or else of rounds.
func (s sample) overlaps(o sample) bool {
	a, b, ok := s.spread()
	c, d, also := o.spread()
	if !ok || !also {
		if len(s.rounds) < 2 || len(o.rounds) < 2 {
			return false
		}
		a, b, c, d = slices.Min(s.rounds), slices.Max(s.rounds), slices.Min(o.rounds), slices.Max(o.rounds)
	}
	return a <= d && c <= b
}

func quantile(values []float64, q float64) float64 { return stats.Sample{Xs: values}.Quantile(q) }
