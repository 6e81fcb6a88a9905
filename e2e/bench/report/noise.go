// SPDX-License-Identifier: Apache-2.0

package report

import (
	"math"

	"github.com/aclements/go-moremath/stats"
)

// noise is how much the figures of a metric differ from round to round where nothing
// else does, as parts of a figure. It is pooled from all sizes and targets: two rounds of
// one alone may be near each other by chance.
type noise struct {
	squares float64 // sum of the squared deviations of the logarithms from the rounds' mean
	freedom float64 // degrees of freedom
}

// noiseOf is what a run has seen of a peer's metric.
func (r *Results) noiseOf(m Metric, peer string) (out noise) {
	for _, key := range r.keys(m.Name) {
		if key.Peer != peer || key.neutral() {
			continue
		}
		rounds := r.figure(m, key).rounds
		if len(rounds) < 2 {
			continue
		}
		mean := stats.GeoMean(rounds)
		for _, v := range rounds {
			if mean > 0 {
				out.squares += math.Pow(math.Log(v/mean), 2)
			}
		}
		out.freedom += float64(len(rounds) - 1)
	}
	return out
}

func (n noise) and(o noise) noise { return noise{n.squares + o.squares, n.freedom + o.freedom} }

// oneRound is the margin where no noise was seen: with one round, in a quick run.
const oneRound = 1

// margin is how much larger one of two figures, of a and b rounds, is than the other by chance in
// all but a part p of the cases, as a part of the other: by Student's t, on a logarithmic scale.
func (n noise) margin(p float64, a, b int) float64 {
	if n.freedom == 0 {
		return oneRound
	}
	t := stats.InvCDF(stats.TDist{V: n.freedom})(1 - p/2)
	return math.Expm1(t * math.Sqrt(n.squares/n.freedom*(1/float64(a)+1/float64(b))))
}
