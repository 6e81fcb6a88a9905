// SPDX-License-Identifier: Apache-2.0

package report

import (
	"math"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
)

// drawing is one of the report's plots. Its draw returns nil if there is nothing to show.
type drawing struct {
	name   string
	metric string // that it belongs to
	title  string
	draw   func(*Results, theme) *figure
}

func drawings() []drawing {
	return []drawing{
		{"start", "start", "From start to everything programmed", drawStart},
		{"change", "change", "One endpoint replaced, API to packet: p50 (solid) and p99 (dashed)", drawChange},
		{"change-all", "change", "How many changes took no longer than that, at the largest size", drawEveryChange},
		{"cpu", "start-user", "CPU time of the start, user and system", drawCPU},
		{"memory", "memory", "Resident memory, idle", drawMemory},
		{"connect", "connect", "TCP handshake from a pod, p50, at the largest size", drawConnect},
		{"traffic", "rate", "Through a Service, as a part of the same on a node without rules", drawTraffic},
		{"spread", "spread", "Connections of each backend", drawSpread},
		{"schedulers", "spread", "Connections of the busiest backend above its share, by scheduler; kube-proxy has chance alone", drawSchedulers},
		{"disruption", "failed", "Connections in trouble, of 10,000, while the proxy restarts and while endpoints change", drawDisruption},
	}
}

// overSizes returns a quantile of a peer at each size where it was measured.
func (r *Results) overSizes(peer string, q float64, metrics ...string) plotter.XYs {
	var out plotter.XYs
	for _, size := range r.Plan.ControlSizes {
		if s := r.sample(peer, size, "", metrics...); s.n() > 0 && s.quantile(q) > 0 { // the axis is logarithmic
			out = append(out, plotter.XY{X: float64(size), Y: s.quantile(q)})
		}
	}
	return out
}

// largest is the largest size at which nftproxy has samples of a metric.
func (r *Results) largest(metric, target string) int {
	for _, size := range slices.Backward(r.Plan.Sizes) {
		if r.sample(Nftproxy, size, target, metric).n() > 0 {
			return size
		}
	}
	return 0
}

func drawStart(r *Results, t theme) *figure {
	f := newFigure(t, "Services, each with 10 endpoints", "")
	for _, peer := range append(Peers(), Floor) {
		f.line(peer, r.overSizes(peer, 0.5, "start"), false)
	}
	return f.finish(r, "s")
}

func drawCPU(r *Results, t theme) *figure {
	f := newFigure(t, "Services, each with 10 endpoints", "")
	for _, peer := range Peers() {
		f.line(peer, r.overSizes(peer, 0.5, "start-user", "start-system"), false)
	}
	return f.finish(r, "s")
}

func drawChange(r *Results, t theme) *figure {
	f := newFigure(t, "Services, each with 10 endpoints", "")
	for _, peer := range Peers() {
		f.line(peer, r.overSizes(peer, 0.5, "change"), false)
		f.line(peer, r.overSizes(peer, 0.99, "change"), true)
	}
	return f.finish(r, "ms")
}

// finish sets the axes of a plot over sizes: nil without a line.
func (f *figure) finish(r *Results, unit string) *figure {
	if len(f.legend) == 0 {
		return nil
	}
	f.logarithmic(r.Plan.ControlSizes, unit)
	return f
}

// drawEveryChange draws the cumulative distribution.
func drawEveryChange(r *Results, t theme) *figure {
	size := r.largest("change", "")
	f := newFigure(t, "", "changes")
	for _, peer := range Peers() {
		s := r.sample(peer, size, "", "change")
		var steps plotter.XYs
		for i, v := range s.all.Xs {
			if v > 0 {
				steps = append(steps, plotter.XY{X: v, Y: 100 * float64(i+1) / float64(s.n())})
			}
		}
		f.line(peer, steps, false)
	}
	if len(f.legend) == 0 {
		return nil
	}
	f.X.Scale, f.X.Tick.Marker = plot.LogScale{}, decades("ms")
	f.X.Min, f.X.Max = math.Pow(10, math.Floor(math.Log10(f.X.Min))), math.Pow(10, math.Ceil(math.Log10(f.X.Max)))
	f.Y.Min, f.Y.Max, f.Y.Tick.Marker = 0, 100, plain("%")
	return f
}

func drawMemory(r *Results, t theme) *figure {
	f := newFigure(t, "Services, each with 10 endpoints", "MB")
	var groups []string
	for _, size := range r.Plan.ControlSizes {
		groups = append(groups, count(size))
	}
	return f.columns(groups, func(peer string, g int) (float64, string, bool) {
		s := r.sample(peer, r.Plan.ControlSizes[g], "", "memory")
		return s.median(), number(math.Round(s.median())), s.n() > 0
	})
}

func drawConnect(r *Results, t theme) *figure {
	targets := []string{Without, Direct, First, Middle, Last}
	size := r.largest("connect", FromPod+First)
	f := newFigure(t, "", "µs")
	return f.columns([]string{"no rules", "no Service", "first", "middle", "last"}, func(peer string, g int) (float64, string, bool) {
		s := r.sample(peer, size, FromPod+targets[g], "connect")
		return s.median(), number(s.median()), s.n() > 0
	})
}

func drawTraffic(r *Results, t theme) *figure {
	metrics := []string{"rate", "throughput", "packets"}
	size := r.largest("rate", FromPod+Service)
	f := newFigure(t, "", "")
	f.Y.Tick.Marker = plain("%")
	return f.columns([]string{"connections/s", "throughput", "packets/s"}, func(peer string, g int) (float64, string, bool) {
		s := r.toTwin(Without, peer, size, FromPod+Service, metrics[g])
		return 100 * s.median(), number(math.Round(100 * s.median())), s.n() > 0
	})
}

func drawSpread(r *Results, t theme) *figure {
	size := r.largest("spread", "")
	f := newFigure(t, "backend, the busiest last", "")
	f.Y.Tick.Marker = plain("connections")
	var groups []string
	for i := range r.Plan.Endpoints {
		groups = append(groups, count(i+1))
	}
	return f.columns(groups, func(peer string, g int) (float64, string, bool) {
		// The rounds' samples, of the same backends, one by one.
		var list []float64
		for round := range r.Plan.Rounds {
			if list = r.round("spread", peer, size, "", round); len(list) > g {
				break
			}
		}
		if len(list) <= g {
			return 0, "", false
		}
		slices.Sort(list)
		return list[g], "", true
	})
}

// drawSchedulers draws how much more than its share the busiest backend has, in each round; the median of rounds counts.
func drawSchedulers(r *Results, t theme) *figure {
	size := r.largest("spread", Scheduler+Schedulers()[0])
	f := newFigure(t, "", "above the share")
	f.Y.Tick.Marker = plain("%")
	return f.columns(Schedulers(), func(peer string, g int) (float64, string, bool) {
		target := Scheduler + Schedulers()[g]
		if peer != Nftproxy {
			target = ""
		}
		if size == 0 || peer != Nftproxy && Schedulers()[g] != "random" {
			return 0, "", false
		}
		var parts sample
		for round := range r.Plan.Rounds {
			if list := r.round("spread", peer, size, target, round); sum(list) > 0 {
				parts.all.Xs = append(parts.all.Xs, 100*(slices.Max(list)*float64(len(list))/sum(list)-1))
			}
		}
		parts.all.Sort()
		return parts.median(), number(math.Round(10*parts.median()) / 10), parts.n() > 0
	})
}

func drawDisruption(r *Results, t theme) *figure {
	causes := []struct{ target, metric string }{
		{Restart, "failed"}, {Restart, "stalled"}, {Backends, "failed"}, {Backends, "stalled"}, {Backends, "removed"},
	}
	size := r.largest("attempts", Restart)
	f := newFigure(t, "", "")
	f.Y.Tick.Marker = plain("connections")
	return f.columns([]string{"restart:\nfailed", "restart:\nstalled", "changes:\nfailed", "changes:\nstalled", "changes:\nto removed"}, func(peer string, g int) (float64, string, bool) {
		s := r.sample(peer, size, causes[g].target, causes[g].metric)
		attempts := r.sample(peer, size, causes[g].target, "attempts")
		if s.n() == 0 || attempts.n() == 0 {
			return 0, "", false
		}
		part := 10000 * sum(s.all.Xs) / sum(attempts.all.Xs)
		return part, number(part), true
	})
}

// columns draws bars of those proxies that have any: nil without one.
func (f *figure) columns(groups []string, get func(peer string, group int) (float64, string, bool)) *figure {
	if len(groups) == 0 || !slices.ContainsFunc(Peers(), func(peer string) bool {
		_, _, ok := get(peer, 0)
		return ok
	}) {
		return nil
	}
	f.bars(Peers(), groups, get)
	return f
}

func sum(values []float64) (out float64) {
	for _, v := range values {
		out += v
	}
	return out
}
