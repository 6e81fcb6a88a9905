// SPDX-License-Identifier: Apache-2.0

//go:build linux

package metrics

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
)

const (
	dashboardFile = "../../deploy/chart/files/dashboard.json"
	alertsFile    = "../../deploy/chart/files/alerts.yaml"
)

// dashboard is what matters of a dashboard of Grafana.
type dashboard struct {
	Title, UID    string
	SchemaVersion int
	Panels        []struct {
		ID                       int
		Type, Title, Description string
		Datasource               *struct{ UID string }
		GridPos                  struct{ X, Y, W, H int }
		Targets                  []struct{ Expr, RefID, LegendFormat string }
	}
	Templating struct {
		List []struct{ Name, Type, Definition, AllValue string }
	}
}

// TestDeploy: the dashboard and the alerts ask for nothing that nftproxy does not
// expose.
func TestDeploy(t *testing.T) {
	live := exposed(scrape(t))
	t.Run("dashboard", func(t *testing.T) {
		d := readDashboard(t)
		checkLayout(t, d)
		for _, p := range d.Panels {
			for _, target := range p.Targets {
				checkExpr(t, live, "panel "+p.Title, target.Expr)
			}
		}
		for _, v := range d.Templating.List {
			if v.Type == "query" {
				inner := strings.TrimSuffix(strings.TrimPrefix(v.Definition, "label_values("), ")")
				query, isOf := strings.CutSuffix(inner, ", "+v.Name)
				if inner == v.Definition || !isOf {
					t.Errorf("variable %s: %q is not label_values(METRIC, %s)", v.Name, v.Definition, v.Name)
				}
				checkExpr(t, live, "variable "+v.Name, query)
			}
		}
	})
	t.Run("alerts", func(t *testing.T) {
		groups, errs := rulefmt.ParseFile(alertsFile, false, model.UTF8Validation, newParser(), slog.Default())
		for _, err := range errs {
			t.Error(err)
		}
		if groups == nil {
			return
		}
		names := map[string]bool{}
		for _, g := range groups.Groups {
			for _, r := range g.Rules {
				checkExpr(t, live, r.Alert, r.Expr)
				if names[r.Alert] {
					t.Errorf("there are two alerts %s", r.Alert)
				}
				names[r.Alert] = true
				for _, a := range []string{"summary", "description", "runbook_url"} {
					if r.Annotations[a] == "" {
						t.Errorf("%s has no %s", r.Alert, a)
					}
				}
				if s := r.Labels["severity"]; s != "warning" && s != "critical" {
					t.Errorf("%s has the severity %q", r.Alert, s)
				}
			}
		}
		if len(names) == 0 {
			t.Error("there is no alert")
		}
	})
}

// TestAllOfOurs: the dashboard or an alert asks for each metric of ours, by its whole name.
func TestAllOfOurs(t *testing.T) {
	asked := map[string]bool{}
	for _, expr := range expressions(t) {
		for _, name := range metricsIn(t, expr) {
			asked[name] = true
		}
	}
	for name, f := range scrape(t) {
		names := slices.Collect(maps.Keys(exposed(map[string]*dto.MetricFamily{name: f}))) // with a histogram's parts
		ask := func(name string) bool { return name != "up" && asked[name] }
		if strings.HasPrefix(name, "nftproxy_") && !slices.ContainsFunc(names, ask) {
			t.Errorf("neither the dashboard nor an alert has %s", name)
		}
	}
}

// TestMetricsIn: a name that begins with another one is not that.
func TestMetricsIn(t *testing.T) {
	got := metricsIn(t, `sum by (a_total) (rate(b_total{job=~"$job"}[$__rate_interval])) / c_total_bytes`)
	if want := []string{"b_total", "c_total_bytes"}; !slices.Equal(got, want) {
		t.Errorf("metrics %q, want %q", got, want)
	}
}

// expressions returns those of the dashboard's panels and of the alerts.
func expressions(t *testing.T) (out []string) {
	t.Helper()
	for _, p := range readDashboard(t).Panels {
		for _, target := range p.Targets {
			out = append(out, target.Expr)
		}
	}
	groups, errs := rulefmt.ParseFile(alertsFile, false, model.UTF8Validation, newParser(), slog.Default())
	for _, err := range errs {
		t.Fatal(err)
	}
	for _, g := range groups.Groups {
		for _, r := range g.Rules {
			out = append(out, r.Expr)
		}
	}
	return out
}

// metricsIn returns the metrics that an expression asks for.
func metricsIn(t *testing.T, expr string) (out []string) {
	t.Helper()
	tree, err := parse(expr)
	must(t, err)
	parser.Inspect(tree, func(n parser.Node, _ []parser.Node) error {
		if v, ok := n.(*parser.VectorSelector); ok {
			out = append(out, v.Name)
		}
		return nil
	})
	return out
}

// TestCheckExpr: what is not exposed is found.
func TestCheckExpr(t *testing.T) {
	live := map[string][]string{"a_total": {"code"}}
	for expr, want := range map[string]string{
		`rate(a_total{code="1", job="$job"}[$__rate_interval])`: "",
		`sum by (code) (a_total)`:                               "",
		`rate(b_total[5m])`:                                     "nftproxy has no metric b_total",
		`a_total{colour="1"}`:                                   "a_total has no label colour",
		`sum by (colour) (a_total)`:                             "no metric in it has the label colour",
		`sum by (code (a_total)`:                                "unexpected",
	} {
		got := faults(live, expr)
		if (want == "") != (len(got) == 0) || !strings.Contains(strings.Join(got, "\n"), want) {
			t.Errorf("%s: %q, want %q", expr, got, want)
		}
	}
}

func newParser() parser.Parser { return parser.NewParser(parser.Options{}) }

// parse parses an expression, in which Grafana's variables may be.
func parse(expr string) (parser.Expr, error) {
	return newParser().ParseExpr(strings.ReplaceAll(expr, "$__rate_interval", "5m"))
}

func readDashboard(t *testing.T) dashboard {
	t.Helper()
	text, err := os.ReadFile(dashboardFile)
	must(t, err)
	var d dashboard
	must(t, json.Unmarshal(text, &d))
	return d
}

// checkLayout checks what Grafana would show wrongly.
func checkLayout(t *testing.T, d dashboard) {
	t.Helper()
	if d.UID == "" || d.Title == "" || d.SchemaVersion < 39 {
		t.Errorf("no dashboard of Grafana 11: uid %q, title %q, schemaVersion %d", d.UID, d.Title, d.SchemaVersion)
	}
	ids, cells := map[int]bool{}, map[[2]int]string{}
	for _, p := range d.Panels {
		if ids[p.ID] {
			t.Errorf("panel %s: its id %d is another's, too", p.Title, p.ID)
		}
		ids[p.ID] = true
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other, ok := cells[[2]int{x, y}]; ok || x >= 24 {
					t.Fatalf("panel %s is over %s or outside", p.Title, other)
				}
				cells[[2]int{x, y}] = p.Title
			}
		}
		if p.Type == "row" {
			continue
		}
		if p.Datasource == nil || p.Datasource.UID != "${datasource}" || p.Description == "" || len(p.Targets) == 0 {
			t.Errorf("panel %s lacks the variable data source, a description or a query", p.Title)
		}
	}
	want := map[string]string{"datasource": "datasource", "cluster": "query", "job": "query", "instance": "query"}
	got := map[string]string{}
	for _, v := range d.Templating.List {
		got[v.Name] = v.Type
	}
	if !maps.Equal(got, want) {
		t.Errorf("variables %v, want %v", got, want)
	}
}

// exposed returns the names that can be asked for, with their labels.
func exposed(families map[string]*dto.MetricFamily) map[string][]string {
	out := map[string][]string{"up": nil, "kube_node_info": nil} // Prometheus' own, and kube-state-metrics'
	for name, f := range families {
		var names []string
		for _, m := range f.Metric {
			for _, l := range m.Label {
				names = append(names, l.GetName())
			}
		}
		out[name] = names
		if f.GetType() == dto.MetricType_HISTOGRAM {
			out[name+"_bucket"], out[name+"_sum"], out[name+"_count"] = append(names, "le"), names, names
		}
	}
	return out
}

func checkExpr(t *testing.T, live map[string][]string, where, expr string) {
	t.Helper()
	for _, f := range faults(live, expr) {
		t.Errorf("%s: %s: %s", where, expr, f)
	}
}

// added are the labels that Prometheus, its monitors and its federation add.
var added = []string{"cluster", "job", "instance", "node"}

// faults returns what is wrong with an expression.
func faults(live map[string][]string, expr string) (out []string) {
	tree, err := parse(expr)
	if err != nil {
		return []string{err.Error()}
	}
	known := slices.Clone(added)
	parser.Inspect(tree, func(n parser.Node, _ []parser.Node) error {
		if v, ok := n.(*parser.VectorSelector); ok {
			has, ok := live[v.Name]
			if !ok {
				out = append(out, "nftproxy has no metric "+v.Name)
			}
			known = append(known, has...)
			out = append(out, unknownLabels(v, has)...)
		}
		return nil
	})
	parser.Inspect(tree, func(n parser.Node, _ []parser.Node) error {
		if a, ok := n.(*parser.AggregateExpr); ok && len(out) == 0 {
			for _, l := range a.Grouping {
				if !slices.Contains(known, l) {
					out = append(out, "no metric in it has the label "+l)
				}
			}
		}
		return nil
	})
	return out
}

// unknownLabels names the labels of a selector that its metric does not have.
func unknownLabels(v *parser.VectorSelector, has []string) (out []string) {
	for _, m := range v.LabelMatchers {
		if m.Name != labels.MetricName && !slices.Contains(added, m.Name) && !slices.Contains(has, m.Name) {
			out = append(out, fmt.Sprintf("%s has no label %s", v.Name, m.Name))
		}
	}
	return out
}
