// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/nftproxy/nftproxy/e2e/bench/report"
)

// results are all that a run found.
type results struct {
	Began    time.Time      `json:"began"`
	Length   time.Duration  `json:"length"` // of the load
	Plan     plan           `json:"plan"`
	Services string         `json:"services"` // in words
	Machine  report.Machine `json:"machine"`
	Rows     []row          `json:"rows"`
	Restarts []float64      `json:"restarts"` // of the API server: minutes
	Failed   int            `json:"failed"`
	Failures []failure      `json:"failures"` // the first ones
	Error    string         `json:"error,omitempty"`
	Log      string         `json:"log,omitempty"` // nftproxy's last lines, if something was wrong
	Series   series         `json:"series"`
}

// row is something that was found. A bad one fails the run.
type row struct {
	What  string `json:"what"`
	Found string `json:"found"`
	Bad   bool   `json:"bad,omitempty"`
}

func (r *results) row(what, found string, bad bool) { r.Rows = append(r.Rows, row{what, found, bad}) }

// passed says whether nothing was wrong.
func (r *results) passed() bool {
	return r.Error == "" && r.Failed == 0 && !slices.ContainsFunc(r.Rows, func(r row) bool { return r.Bad })
}

// results says what the load came to.
func (r *run) results(length time.Duration) *results {
	out := &results{Began: r.began.UTC().Truncate(time.Second), Length: length, Plan: r.plan, Services: describe(r.services),
		Machine: report.ThisMachine(r.program), Restarts: r.restarts.minutes, Series: r.series}
	t := r.tally.take()
	out.row("New connections that failed", fmt.Sprintf("%s of %s", count(int64(t.Failed)), count(int64(t.Made))), t.Failed > 0)
	lost, asked, resent := 0, 0, 0
	for _, o := range r.open {
		asked, resent = asked+o.Asked, resent+o.Resent
		if o.Lost != nil {
			lost++
		}
	}
	out.row("Open connections that were lost", fmt.Sprintf("%d of %d, with %s requests; %s TCP segments were sent again",
		lost, len(r.open), count(int64(asked)), count(int64(resent))), lost > 0)
	out.row("Slowest new connection", seconds(t.Overall), false)
	out.row("Datagrams sent again because their endpoint went away just then", count(int64(t.Again)), false)
	out.row("New connections to an endpoint that the API server had confirmed to be gone",
		fmt.Sprintf("%s: at most %s after that; around a restart of the API server at most %s", count(int64(t.Late)), seconds(t.Latest), seconds(t.LatestAround)), false)
	r.paceRow(out, t)
	out.row("Restarts of the API server", fmt.Sprintf("%d, without one for %.0f s in all; nftproxy followed again within %s",
		len(r.restarts.minutes), r.restarts.without.Seconds(), seconds(r.restarts.slowest)), false)
	out.row("Changes by another program", r.foreign.String(), false)
	out.usageRows()
	return out
}

// seconds writes a time with three digits that count.
func seconds(d time.Duration) string { return report.Number(d.Seconds(), "s") }

func (c *foreignCounts) String() string {
	return fmt.Sprintf("%s: %s to nftproxy's tables were refused by the kernel, %s were made and repaired, %s were in a table of its own",
		count(c.tried.Load()), count(c.refused.Load()), count(c.went.Load()), count(c.own.Load()))
}

// paceRow says how much there was of everything.
func (r *run) paceRow(out *results, t snapshot) {
	length := min(out.Length, r.plan.Length).Seconds()
	connections, changes := float64(t.Made)/length, float64(r.changes.Load())/(length-r.restarts.without.Seconds())
	slow := connections < leastPace*float64(r.plan.Connections) || changes < leastPace*float64(r.plan.Changes)
	out.row("Pace, while there was an API server", fmt.Sprintf("%.0f new connections and %.0f changes a second; %s changes in all", connections, changes, count(r.changes.Load())), slow)
}

// usageRows says what nftproxy took.
func (r *results) usageRows() {
	early, most := r.windows(colMemory)
	if early == 0 {
		r.row("Memory", "the run was too short to tell", true)
		return
	}
	when := fmt.Sprintf("from %s to %s", r.Plan.Settled, 2*r.Plan.Settled)
	if r.Plan.Settled == time.Minute {
		when = "minute 2"
	}
	r.row("Memory, resident", fmt.Sprintf("%s: %s; later at most %s, %.2f times as much", when, report.Number(early, "MB"), report.Number(most, "MB"), most/early), most > mostMemory*early)
	for _, of := range []struct{ column, name string }{{colGoroutines, "Goroutines"}, {colDescriptors, "Open files"}} {
		early, _ := r.windows(of.column)
		last := r.last(of.column)
		r.row(of.name, fmt.Sprintf("%s: %.0f; at the end %.0f", when, early, last), last > mostMemory*early+10)
	}
	mean := 0.0
	for _, v := range r.Series[colCPU] {
		mean += v / float64(len(r.Series[colCPU]))
	}
	r.row("CPU", fmt.Sprintf("%.1f %% of a core on average", mean), false)
	r.row("Transactions that the kernel refused", fmt.Sprintf("%.0f", r.last(colRefused)), false)
}

func (r *results) last(column string) float64 {
	values := r.Series[column]
	if len(values) == 0 {
		return 0
	}
	return values[len(values)-1]
}

// windows cuts the run into times as long as plan.Settled, and returns the mean of a column in the second one,
// and the greatest mean of those after it that are complete. Early is 0 if there is none.
func (r *results) windows(column string) (early, most float64) {
	length := r.Plan.Settled.Minutes()
	sums, numbers := map[int]float64{}, map[int]int{}
	for i, minute := range r.Series[colMinute] {
		w := int(minute / length)
		sums[w] += r.Series[column][i]
		numbers[w]++
	}
	if numbers[1] == 0 {
		return 0, 0
	}
	early = sums[1] / float64(numbers[1])
	for w := range sums {
		if w > 1 && 2*numbers[w] > numbers[1] {
			most = math.Max(most, sums[w]/float64(numbers[w]))
		}
	}
	return early, most
}

// complete adds to the results with what was found after the load.
func (r *results) complete(run *run, err error) {
	r.Failures, r.Failed = run.diary.found()
	if err != nil {
		r.Error = err.Error()
	}
	if !r.passed() {
		r.Log = tail(run.proxy.Log(), 60)
	}
}

// String tells of a failure in lines.
func (f failure) String() string {
	out := fmt.Sprintf("minute %.2f (%s UTC), Service %s: %s: %s", f.Minute, f.At, f.Service, f.What, f.Error)
	if len(f.Then) == 0 {
		return out + "\n  nothing was done then"
	}
	return out + "\n  done then, from its begin:\n    " + strings.Join(f.Then, "\n    ")
}

// resultsFile is the name of the file, inside a report's folder, that the rest is made from.
const resultsFile = "results.json"

func (r *results) save(dir string) error {
	text, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("write results: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("write results: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, resultsFile), append(text, '\n'), 0o644); err != nil {
		return fmt.Errorf("write results: %w", err)
	}
	return nil
}

func load(file string) (*results, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read results: %w", err)
	}
	r := &results{}
	if err := json.Unmarshal(text, r); err != nil {
		return nil, fmt.Errorf("read results %s: %w", file, err)
	}
	return r, nil
}

// count writes a whole number with commas between thousands.
func count(n int64) string {
	text := fmt.Sprint(n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}
