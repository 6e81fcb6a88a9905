// SPDX-License-Identifier: Apache-2.0

package report

import (
	"fmt"
	"io"
	"math"
	"reflect"
	"slices"

	"golang.org/x/perf/benchmath"
)

// Difference is how a measurement changed from one run to another.
type Difference struct {
	Metric   Metric
	Peer     string
	Services int
	Target   string
	Old, New float64 // medians
	Noise    float64 // how far apart the medians may be without meaning, in the metric's unit
	Worse    bool
}

const (
	// manySamples is from how many on a test of the distributions decides along with the noise.
	manySamples = 10
	// alpha is small because hundreds of figures are compared: 0.01 would find several by chance.
	alpha = 0.0001
	// leastChange is what a change must come to, whatever the noise, in parts of the old figure.
	leastChange = 0.05
)

// Compare returns what changed by more than the noise seen in either run: the spread
// of the rounds' medians, or of the samples if they are few; and, where there are many
// samples, not by chance as the Mann-Whitney U test sees it.
func Compare(before, after *Results) []Difference {
	var out []Difference
	for _, m := range Metrics() {
		for _, key := range before.keys(m.Name) {
			a := before.sample(key.Peer, key.Services, key.Target, m.Name)
			b := after.sample(key.Peer, key.Services, key.Target, m.Name)
			if b.n() == 0 {
				continue
			}
			d := Difference{Metric: m, Peer: key.Peer, Services: key.Services, Target: key.Target,
				Old: a.median(), New: b.median(), Noise: max(a.margin(), b.margin(), leastChange*math.Abs(a.median()))}
			d.Worse = (d.New > d.Old) != m.Higher
			if math.Abs(d.New-d.Old) > d.Noise && differs(a, b) {
				out = append(out, d)
			}
		}
	}
	return out
}

// margin is how far apart the medians of the rounds are, or the samples if they are few, in the metric's unit.
func (s sample) margin() float64 {
	list := s.rounds
	if s.n() < manySamples {
		list = s.all.Xs
	}
	return slices.Max(list) - slices.Min(list)
}

// differs tells whether the samples come from different distributions.
func differs(a, b sample) bool {
	if a.n() < manySamples || b.n() < manySamples {
		return true // the margin decides
	}
	thresholds := &benchmath.Thresholds{CompareAlpha: alpha}
	result := benchmath.AssumeNothing.Compare(
		benchmath.NewSample(slices.Clone(a.all.Xs), thresholds), benchmath.NewSample(slices.Clone(b.all.Xs), thresholds))
	return result.P < alpha
}

// keys returns a measurement of each peer, size and target of a metric, without samples.
func (r *Results) keys(metric string) []Measurement {
	var out []Measurement
	for _, m := range r.Measurements {
		key := Measurement{Metric: metric, Peer: m.Peer, Services: m.Services, Target: m.Target}
		same := func(o Measurement) bool { return reflect.DeepEqual(o, key) }
		if m.Metric == metric && len(m.Samples) > 0 && !slices.ContainsFunc(out, same) {
			out = append(out, key)
		}
	}
	return out
}

// WriteComparison says what got worse and what got better, what only one of the runs
// has, and what makes them hard to compare. It returns how much of nftproxy got worse.
func WriteComparison(w io.Writer, before, after *Results) (worse int) {
	for _, warning := range incomparable(before, after) {
		fmt.Fprintf(w, "warning: %s\n", warning)
	}
	differences := Compare(before, after)
	for _, part := range []struct {
		title string
		worse bool
	}{{"Worse", true}, {"Better", false}} {
		fmt.Fprintf(w, "%s, by more than the noise:\n", part.title)
		none := true
		for _, d := range differences {
			if d.Worse == part.worse {
				none = false
				fmt.Fprintf(w, "  %s\n", d)
				if d.Worse && d.Peer == Nftproxy {
					worse++
				}
			}
		}
		if none {
			fmt.Fprintln(w, "  nothing")
		}
	}
	onlyIn(w, "old", before, after)
	onlyIn(w, "new", after, before)
	return worse
}

// String writes the figures, with the noise.
func (d Difference) String() string {
	where := name(d.Metric, Measurement{Peer: d.Peer, Services: d.Services, Target: d.Target})
	change := "from nothing"
	if d.Old != 0 {
		change = fmt.Sprintf("%+.0f %%", 100*(d.New/d.Old-1))
	}
	return fmt.Sprintf("%s: %s -> %s (%s; noise %s)", where, value(d.Old, d.Metric.Unit), value(d.New, d.Metric.Unit),
		change, value(d.Noise, d.Metric.Unit))
}

// name says what was measured.
func name(m Metric, at Measurement) string {
	text := fmt.Sprintf("%s: %s, %s", at.Peer, m.Title, plural(at.Services, "Service"))
	if at.Target != "" {
		text += ", " + where(at.Target)
	}
	return text
}

// onlyIn lists what one run has and the other lacks.
func onlyIn(w io.Writer, which string, one, other *Results) {
	first := true
	for _, m := range Metrics() {
		for _, key := range one.keys(m.Name) {
			if other.sample(key.Peer, key.Services, key.Target, m.Name).n() > 0 {
				continue
			}
			if first {
				fmt.Fprintf(w, "Only in the %s run:\n", which)
				first = false
			}
			fmt.Fprintf(w, "  %s\n", name(m, key))
		}
	}
}

// incomparable says what else may have made a difference.
func incomparable(before, after *Results) []string {
	var out []string
	a, b := before.Machine, after.Machine
	for _, pair := range []struct{ what, old, new string }{
		{"CPU", a.CPU, b.CPU}, {"number of cores", count(a.Cores), count(b.Cores)}, {"kernel", a.Kernel, b.Kernel},
		{"system", a.OS, b.OS}, {"version of Go", a.Go, b.Go}, {"version of Kubernetes", a.Kubernetes, b.Kubernetes},
		{"plan", before.Plan.Name, after.Plan.Name},
	} {
		if pair.old != pair.new {
			out = append(out, fmt.Sprintf("the %s differs: %s, %s", pair.what, pair.old, pair.new))
		}
	}
	if len(out) == 0 && !reflect.DeepEqual(before.Plan, after.Plan) {
		out = append(out, "the plans differ in their numbers")
	}
	return out
}
