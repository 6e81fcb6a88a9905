// SPDX-License-Identifier: Apache-2.0

package report

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// headline is a line of the summary.
type headline struct {
	title    string
	parts    []string // metrics, added up
	target   string
	quantile float64 // 0: the smallest to the largest; ofBare, ofOneRule: the median, as a part of that on such a node
}

const (
	ofBare    = -1
	ofOneRule = -2
)

func headlines() []headline {
	return []headline{
		{"from start to everything programmed", []string{"start"}, "", 0.5},
		{"CPU time of that start", []string{"start-user", "start-system"}, "", 0.5},
		{"a restart with everything in place", []string{"restart"}, "", 0.5},
		{"one endpoint replaced, API to packet, p50", []string{"change"}, "", 0.5},
		{"the same, p99", []string{"change"}, "", 0.99},
		{"CPU time of one change", []string{"change-cpu"}, "", 0.5},
		{"a burst of changes", []string{"burst"}, "", 0.5},
		{"CPU during a rolling update", []string{"roll-cpu"}, "", 0.5},
		{"memory, ten seconds after the last change", []string{"memory"}, "", 0.5},
		{"kernel memory per Service", []string{"memory-kernel"}, "", 0.5},
		{"new connection past all Services, p50 ¹", []string{"connect"}, FromPod + Direct, ofBare},
		{"new connection through the last Service, p50 ¹", []string{"connect"}, FromPod + Last, ofBare},
		{"the same, through the first Service ²", []string{"connect"}, FromPod + First, ofOneRule},
		{"the same, through the middle one ²", []string{"connect"}, FromPod + Middle, ofOneRule},
		{"the same, through the last one ²", []string{"connect"}, FromPod + Last, ofOneRule},
		{"new connections a second, through Services ¹", []string{"rate"}, FromPod + Service, ofBare},
		{"the same ²", []string{"rate"}, FromPod + Service, ofOneRule},
		{"CPU time of one of these ¹", []string{"rate-cpu"}, FromPod + Service, ofBare},
		{"throughput through a Service ¹", []string{"throughput"}, FromPod + Service, ofBare},
		{"CPU time of that, a gigabit ¹", []string{"throughput-cpu"}, FromPod + Service, ofBare},
		{"UDP packets a second through a Service ¹", []string{"packets"}, FromPod + Service, ofBare},
		{"connections per backend", []string{"spread"}, "", 0},
		{"failed or stalled during a restart", []string{"failed", "stalled"}, Restart, 0.5},
		{"sent to removed backends", []string{"removed"}, Backends, 0.5},
	}
}

func (h headline) metric() Metric {
	m, _ := MetricNamed(h.parts[0])
	return m
}

// size is the largest one at which a peer has the headline's figure: 0, if none.
func (r *Results) size(h headline, peers ...string) int {
	for _, size := range slices.Backward(r.Plan.Sizes) {
		for _, peer := range peers {
			if n := r.headline(h, peer, size).n(); n > 0 && (h.quantile < 0.9 || n >= enough) {
				return size
			}
		}
	}
	return 0
}

// headline returns the samples that a headline's figure is made of.
func (r *Results) headline(h headline, peer string, size int) sample {
	switch h.quantile {
	case ofBare:
		return r.toTwin(Without, peer, size, h.target, h.parts[0])
	case ofOneRule:
		return r.toTwin(OneRule, peer, size, h.target, h.parts[0])
	}
	return r.sample(peer, size, h.target, h.parts...)
}

// figure writes the headline's figure.
func (h headline) figure(s sample) string {
	if s.noisy() {
		return "too noisy" + spreadText(s)
	}
	switch h.quantile {
	case 0:
		low, high := s.bounds()
		return number(low) + " to " + number(high)
	case ofBare, ofOneRule:
		return percent(s) + spreadText(s)
	}
	return value(s.quantile(h.quantile), h.metric().Unit)
}

// headlineRow writes a headline's figures of all proxies at the largest size that one has.
func (r *Results) headlineRow(h headline) (size int, cells []string) {
	size = r.size(h, Peers()...)
	if size == 0 {
		return 0, nil
	}
	own := r.headline(h, Nftproxy, size)
	for _, peer := range Peers() {
		s := r.headline(h, peer, size)
		if s.n() == 0 {
			cells = append(cells, r.smaller(h, peer))
			continue
		}
		cells = append(cells, h.figure(s)+h.beside(peer, s, own))
	}
	return size, cells
}

// beside writes how a peer's figure is to nftproxy's.
func (h headline) beside(peer string, s, own sample) string {
	switch {
	case peer == Nftproxy || own.n() == 0 || h.quantile == 0:
		return ""
	case h.quantile < 0:
		if s.noisy() || own.noisy() || !own.overlaps(s) {
			return ""
		}
		return ": no difference seen"
	case own.quantile(h.quantile) == 0:
		return ""
	case h.quantile == 0.5 && own.overlaps(s):
		return " (no difference seen)"
	}
	return fmt.Sprintf(" (%s)", times(s.quantile(h.quantile), own.quantile(h.quantile)))
}

// spreadText writes where the middle half of the turns is.
func spreadText(s sample) string {
	low, high, ok := s.spread()
	if !ok {
		return ""
	}
	return fmt.Sprintf(" (%s to %s)", number(math.Round(1000*low)/10), number(math.Round(1000*high)/10))
}

// failoverRows writes the figures of nftproxy's data plane without and with failover, at the largest size that has both.
func (r *Results) failoverRows() []line {
	var out []line
	for _, h := range headlines() {
		size := r.size(h, Failover)
		if size == 0 || h.quantile >= 0 {
			continue
		}
		without, with := r.headline(h, Nftproxy, size), r.headline(h, Failover, size)
		out = append(out, line{h.title, plural(size, "Service"), []string{h.figure(without), h.figure(with) + h.beside(Failover, with, without)}})
	}
	return out
}

// smaller writes the figure of a peer that did not make it to the largest size.
func (r *Results) smaller(h headline, peer string) string {
	why := "not measured"
	if slices.ContainsFunc(r.Failures, func(f Failure) bool { return f.Peer == peer && f.TooSlow }) {
		why = "too slow"
	}
	size := r.size(h, peer)
	if size == 0 {
		return why
	}
	return fmt.Sprintf("%s (%s at %s)", why, h.figure(r.headline(h, peer, size)), count(size))
}

// behind lists where a proxy has a better figure than nftproxy.
func (r *Results) behind() []string {
	var out []string
	for _, group := range groups() {
		for _, t := range r.tables(group) {
			for _, row := range t.Rows {
				for i, c := range row.Cells {
					if c.Verdict != "better" {
						continue
					}
					text := fmt.Sprintf("%s, %s", t.Metric.Title, plural(row.Services, "Service"))
					if row.Target != "" {
						text += ", " + where(row.Target)
					}
					out = append(out, fmt.Sprintf("%s: nftproxy %s, %s %s", text, row.Cells[0].short(), t.Columns[i], c.short()))
				}
			}
		}
	}
	return out
}

// short is what a cell is judged by.
func (c cell) short() string {
	if strings.HasSuffix(c.Ratio, "rules") {
		return c.Ratio
	}
	return c.Figure
}

func groups() []string { return []string{Control, Data, Fairness, Disruption} }
