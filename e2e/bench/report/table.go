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
	Ratio   string // to nftproxy, or to a connection straight to the backend
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
		for _, extra := range []string{NoProxy, Floor} {
			if r.has(m.Name, extra) {
				t.Columns = append(t.Columns, extra)
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
		FromPod + Direct, FromPod + First, FromPod + Middle, FromPod + Last, FromPod + Service,
		FromNode + Direct, FromNode + First, FromNode + Middle, FromNode + Last, FromNode + Service,
		Restart, Backends,
	}, target)
}

func (r *Results) row(t table, size int, target string) row {
	out := row{Services: size, Target: target}
	own := r.sample(Nftproxy, size, target, t.Metric.Name)
	for _, peer := range t.Columns {
		c := cell{sample: r.sample(peer, size, target, t.Metric.Name)}
		if c.n() == 0 {
			c.Missing = r.why(peer, size)
		} else {
			c.fill(t.Metric)
			r.judge(&c, own, t.Metric, peer, size, target)
		}
		out.Cells = append(out.Cells, c)
	}
	return out
}

// why says what kept a peer from being measured at a size: nothing, if it has nothing to measure there.
func (r *Results) why(peer string, size int) string {
	for _, f := range r.Failures {
		if f.Peer == peer && f.Services == size {
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

// judge compares a cell with nftproxy's samples; or, on the data plane, with those of the
// same peer that went straight to the backend in turn with them: so minutes that a
// machine is slow in make no difference.
func (r *Results) judge(c *cell, own sample, m Metric, peer string, size int, target string) {
	if m.Name == "spread" || m.Name == "attempts" { // neither better nor worse
		return
	}
	a, b := c.sample, own
	if relative := r.toDirect(peer, size, target, m.Name); relative.n() > 0 {
		a, b = relative, r.toDirect(Nftproxy, size, target, m.Name)
		c.Ratio = percent(a) + " of direct"
	} else if peer != Nftproxy && own.n() > 0 && own.median() != 0 && m.Group != Data {
		c.Ratio = times(c.median(), own.median()) + " nftproxy"
	}
	if peer != Nftproxy && slices.Contains(Peers(), peer) && b.n() > 0 && !strings.HasSuffix(target, Direct) {
		c.Verdict = verdict(m, a, b)
	}
}

// toDirect returns the medians of each round as parts of what went straight to
// the backend in that round; none for a target that has no such counterpart.
func (r *Results) toDirect(peer string, size int, target string, metric string) sample {
	var out sample
	from, to, ok := strings.Cut(target, "/")
	if !ok || to == Direct {
		return out
	}
	for round := range r.Plan.Rounds {
		values := r.round(metric, peer, size, target, round)
		direct := r.round(metric, peer, size, from+"/"+Direct, round)
		if len(values) > 0 && len(direct) > 0 && quantile(direct, 0.5) != 0 {
			out.rounds = append(out.rounds, quantile(values, 0.5)/quantile(direct, 0.5))
		}
	}
	out.all.Xs = slices.Clone(out.rounds)
	out.all.Sort()
	return out
}

// percent writes a part as such.
func percent(s sample) string { return number(math.Round(1000*s.median())/10) + " %" }

// verdict says whether a peer's samples are better or worse than nftproxy's: the same,
// if they are closer than 3 %, or than the noise of either.
func verdict(m Metric, peer, own sample) string {
	a, b := peer.median(), own.median()
	near := max(0.03*max(math.Abs(a), math.Abs(b)), peer.margin(), own.margin())
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
		Direct: "straight to the backend", First: "first Service", Middle: "middle Service",
		Last: "last Service", Service: "through Services",
		Restart: "while the proxy restarts", Backends: "while endpoints change",
	}
	for prefix, from := range map[string]string{FromPod: "pod", FromNode: "node"} {
		if rest, ok := strings.CutPrefix(target, prefix); ok {
			return from + ", " + words[rest]
		}
	}
	return words[target]
}
