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

func quantile(values []float64, q float64) float64 { return stats.Sample{Xs: values}.Quantile(q) }
