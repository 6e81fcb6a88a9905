// SPDX-License-Identifier: Apache-2.0

package report

import (
	"fmt"
	"io"
	"math"
	"reflect"
)

// Difference is how a measurement changed from one run to another.
type Difference struct {
	Metric   Metric
	Peer     string
	Services int
	Target   string
	Old, New float64 // medians, in the metric's unit or in parts of those without rules
	Noise    float64 // how far apart they may be without meaning
	Worse    bool
}

const (
	// chance is small because hundreds of figures are compared: 0.01 would find several.
	chance = 0.001
	// leastChange is what a change must come to, whatever the noise, in parts of the old figure.
	leastChange = 0.05
	// leastCount is the same where connections or Services are counted.
	leastCount = 5
)

// Compare returns what changed by more than the noise seen in the runs: that of the
// rounds' medians. What traffic costs is compared as a part of the same on a node without rules.
func Compare(before, after *Results) []Difference {
	var out []Difference
	for _, m := range Metrics() {
		for _, key := range before.keys(m.Name) {
			a, b := before.figure(m, key), after.figure(m, key)
			if key.neutral() || a.n() == 0 || b.n() == 0 {
				continue
			}
			d := Difference{Metric: m, Peer: key.Peer, Services: key.Services, Target: key.Target, Old: a.median(), New: b.median()}
			n := before.noiseOf(m, key.Peer).and(after.noiseOf(m, key.Peer))
			d.Noise = d.Old * max(leastChange, n.margin(chance, len(a.rounds), len(b.rounds)))
			if d.New < d.Old { // as much in the other direction
				d.Noise = d.Old - d.Old*d.Old/(d.Old+d.Noise)
			}
			if m.Unit == "connections" || m.Unit == "Services" {
				d.Noise = max(d.Noise, leastCount)
			}
			d.Worse = (d.New > d.Old) != m.Higher
			if math.Abs(d.New-d.Old) > d.Noise {
				out = append(out, d)
			}
		}
	}
	return out
}

// keys returns a measurement of each peer, size and target of a metric, without samples.
func (r *Results) keys(metric string) []Measurement {
	var out []Measurement
	type what struct {
		peer     string
		services int
		target   string
	}
	seen := map[what]bool{}
	for _, m := range r.Measurements {
		at := what{m.Peer, m.Services, m.Target}
		if m.Metric == metric && len(m.Samples) > 0 && !seen[at] {
			seen[at] = true
			out = append(out, Measurement{Metric: metric, Peer: m.Peer, Services: m.Services, Target: m.Target})
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
	figure := func(v float64) string { return value(v, d.Metric.Unit) }
	if d.Metric.isRatio(d.Target) {
		figure = func(v float64) string { return number(math.Round(1000*v)/10) + " %" }
		where += ", of without rules"
	}
	return fmt.Sprintf("%s: %s -> %s (%s; noise %s)", where, figure(d.Old), figure(d.New), change, figure(d.Noise))
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
	if before.Plan.Rounds < 2 && after.Plan.Rounds < 2 {
		out = append(out, "both runs have one round, which shows no noise: only what is twice or half as much is named")
	}
	if len(out) == 0 && !reflect.DeepEqual(before.Plan, after.Plan) {
		out = append(out, "the plans differ in their numbers")
	}
	return out
}
