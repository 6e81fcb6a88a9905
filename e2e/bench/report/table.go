// SPDX-License-Identifier: Apache-2.0

package report

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// table is all that was measured of a metric.
type table struct {
	Metric  Metric
	Columns []string // peers
	Rows    []row
}

// row is one size and target of a metric, with a cell for each column.
type row struct {
	Services int
	Target   string
	Cells    []cell
}

// cell is a figure of a peer, or why there is none.
type cell struct {
	sample
	Missing string // a reason
	Figure  string // the median
	Detail  string // quantiles or range
	Ratio   string // to nftproxy's, or to that of a node without rules
	Verdict string // better, worse or same than nftproxy, or nothing
	Noise   string
}

// tables returns those of a group that have a figure.
func (r *Results) tables(group string) []table {
	var out []table
	for _, m := range Metrics() {
		if m.Group != group {
			continue
		}
		t := table{Metric: m, Columns: Peers()}
		for _, more := range []string{Failover, Floor} {
			if r.has(m.Name, more) {
				t.Columns = append(t.Columns, more)
			}
		}
		for _, size := range r.Plan.Sizes {
			for _, target := range r.targets(m.Name, size) {
				t.Rows = append(t.Rows, r.row(t, size, target))
			}
		}
		if len(t.Rows) > 0 {
			out = append(out, t)
		}
	}
	return out
}

func (r *Results) has(metric, peer string) bool {
	return slices.ContainsFunc(r.Measurements, func(m Measurement) bool { return m.Metric == metric && m.Peer == peer })
}

// targets are those of a metric at a size, in the order they were measured.
func (r *Results) targets(metric string, size int) []string {
	var out []string
	for _, m := range r.Measurements {
		if m.Metric == metric && m.Services == size && !slices.Contains(out, m.Target) {
			out = append(out, m.Target)
		}
	}
	slices.SortStableFunc(out, func(a, b string) int { return rank(a) - rank(b) })
	return out
}

// rank orders targets: as a reader goes through them, whichever peer was first.
func rank(target string) int {
	return slices.Index([]string{
		FromPod + Without, FromPod + OneRule, FromPod + Direct, FromPod + First, FromPod + Middle, FromPod + Last, FromPod + Service,
		FromNode + Without, FromNode + OneRule, FromNode + Direct, FromNode + First, FromNode + Middle, FromNode + Last, FromNode + Service,
		Restart, Backends,
	}, target)
}

func (r *Results) row(t table, size int, target string) row {
	out := row{Services: size, Target: target}
	for _, peer := range t.Columns {
		c := cell{sample: r.sample(peer, size, target, t.Metric.Name)}
		if c.n() == 0 {
			c.Missing = r.why(peer, size)
		} else {
			c.fill(t.Metric)
			r.judge(&c, t.Metric, Measurement{Metric: t.Metric.Name, Peer: peer, Services: size, Target: target})
		}
		out.Cells = append(out.Cells, c)
	}
	return out
}

// why says what kept a peer from being measured at a size: nothing, if it has nothing to measure there.
func (r *Results) why(peer string, size int) string {
	for _, f := range r.Failures {
		if f.Peer == peer && f.Services == size {
			if f.Step == NotTried {
				return f.Step
			}
			return f.Step + " failed"
		}
	}
	return ""
}

// fill writes the figures of a cell that has samples.
func (c *cell) fill(m Metric) {
	c.Figure = value(c.median(), m.Unit)
	low, high := c.bounds()
	switch {
	case m.Name == "spread":
		c.Detail = fmt.Sprintf("%s to %s", number(low), number(high))
	case c.n() >= enough:
		c.Detail = fmt.Sprintf("p95 %s, p99 %s", value(c.quantile(0.95), m.Unit), value(c.quantile(0.99), m.Unit))
	case low != high:
		c.Detail = fmt.Sprintf("%s to %s", value(low, m.Unit), value(high, m.Unit))
	}
	c.Noise = plural(c.n(), "sample")
	if noise := c.noise(); !math.IsNaN(noise) && c.n() >= enough {
		c.Noise += fmt.Sprintf(", rounds %s %% apart", number(math.Round(noise*1000)/10))
	}
}

// judge compares a cell with nftproxy's figure.
func (r *Results) judge(c *cell, m Metric, key Measurement) {
	own := key
	own.Peer = Nftproxy
	theirs, ours := r.figure(m, key), r.figure(m, own)
	switch {
	case m.isRatio(key.Target):
		if theirs.n() > 0 {
			c.Ratio = percent(theirs) + " of without rules"
		}
	case key.Peer != Nftproxy && !key.neutral() && m.Group != Data && ours.n() > 0 && ours.median() != 0:
		c.Ratio = times(theirs.median(), ours.median()) + " nftproxy"
	}
	if key.Peer != Nftproxy && slices.Contains(Peers(), key.Peer) && ours.n() > 0 && theirs.n() > 0 && !key.neutral() {
		c.Verdict = verdict(m, theirs, ours, r.noiseOf(m, key.Peer).and(r.noiseOf(m, Nftproxy)))
	}
}

// isRatio says whether a target's figures are compared as parts of those in the network
// without rules: on a machine that is not always equally fast, only what was measured in
// turn can be compared.
func (m Metric) isRatio(target string) bool {
	_, to, _ := strings.Cut(target, "/")
	return m.Group == Data && m.Name != "rate-failed" && to != Without
}

// neutral says that no figure there is better than another: those without rules and with one are nobody's merit.
func (m Measurement) neutral() bool {
	return m.Metric == "spread" || m.Metric == "attempts" || strings.HasSuffix(m.Target, "/"+Without) || strings.HasSuffix(m.Target, "/"+OneRule)
}

// figure returns the samples that count when proxies or runs are compared.
func (r *Results) figure(m Metric, key Measurement) sample {
	if m.isRatio(key.Target) {
		return r.toTwin(Without, key.Peer, key.Services, key.Target, m.Name)
	}
	return r.sample(key.Peer, key.Services, key.Target, m.Name)
}

// toTwin returns the medians of each round as parts of those in a twin network in that round, without rules or with one, and so
// those of each turn.
func (r *Results) toTwin(twin, peer string, size int, target string, metric string) sample {
	var out sample
	from, _, _ := strings.Cut(target, "/")
	for round := range r.Plan.Rounds {
		values := r.round(metric, peer, size, target, round)
		bare := r.round(metric, peer, size, from+"/"+twin, round)
		if len(values) > 0 && len(bare) > 0 && quantile(bare, 0.5) != 0 {
			out.rounds = append(out.rounds, quantile(values, 0.5)/quantile(bare, 0.5))
			out.turns = append(out.turns, turnsTo(bare, values)...)
		}
	}
	out.all.Xs = slices.Clone(out.rounds)
	if _, _, ok := out.spread(); ok {
		out.all.Xs = slices.Clone(out.turns)
	}
	out.all.Sort()
	return out
}

// turnsMost is how many turns a round has.
const turnsMost = 8

// turnsTo returns what was measured in each turn of a round as a part of what was in a twin network. Where there are
// more samples than turns they are cut into as many pieces.
func turnsTo(bare, values []float64) (out []float64) {
	n := min(turnsMost, len(values), len(bare))
	for i := range n {
		part := func(list []float64) float64 { return quantile(list[i*len(list)/n:(i+1)*len(list)/n], 0.5) }
		if b := part(bare); b != 0 {
			out = append(out, part(values)/b)
		}
	}
	return out
}

// percent writes a part as such.
func percent(s sample) string { return number(math.Round(1000*s.median())/10) + " %" }

// verdict says whether a peer's figure is better or worse than nftproxy's: the same, if
// they are closer than 3 %, or than the noise makes them once in a hundred times.
func verdict(m Metric, peer, own sample, n noise) string {
	a, b := peer.median(), own.median()
	near := max(0.03, n.margin(0.01, len(peer.rounds), len(own.rounds))) * min(a, b)
	switch {
	case math.Abs(a-b) <= near:
		return "same"
	case (a > b) == m.Higher:
		return "better"
	}
	return "worse"
}

// where names a target.
func where(target string) string {
	words := map[string]string{
		Without: "on a node without rules", OneRule: "on a node with one rule", Direct: "to a backend, past the Services", First: "first Service", Middle: "middle Service",
		Last: "last Service", Service: "through Services",
		Restart: "while the proxy restarts", Backends: "while endpoints change",
	}
	for prefix, from := range map[string]string{FromPod: "pod", FromNode: "node"} {
		if rest, ok := strings.CutPrefix(target, prefix); ok {
			return from + ", " + words[rest]
		}
	}
	if name, ok := strings.CutPrefix(target, Scheduler); ok {
		return "scheduler " + name
	}
	return words[target]
}
