// SPDX-License-Identifier: Apache-2.0

//go:build linux

package metrics

import (
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/promqltest"
)

const (
	runbooksFile = "../../docs/runbooks.md"
	// length is how long the series of these tests go on, and step how often they have a value.
	length, step = 3 * time.Hour, 30 * time.Second
)

// series are two nodes with nftproxy and what else is in a usual Prometheus. JOB stands for the scrape job's name.
const series = `
load 30s
  up{job="JOB", instance="10.0.0.1:10249", node="a"} 1x360
  up{job="JOB", instance="10.0.0.2:10249", node="b"} 1x360
  nftproxy_service_ports{job="JOB", instance="10.0.0.1:10249", node="a"} 42x360
  nftproxy_service_ports{job="JOB", instance="10.0.0.2:10249", node="b"} 42x360
  up{job="kubelet", instance="10.0.0.1:10250", node="a"} 1x360
  up{job="node-exporter", instance="10.0.0.1:9100"} 0x360
  up{job="node-exporter", instance="10.0.0.2:9100"} 0x360
  rest_client_requests_total{job="kubelet", instance="10.0.0.1:10250", code="500"} 0+10x360
  kubeproxy_network_programming_duration_seconds_bucket{job="cilium", instance="x", le="1"} 0x360
  kubeproxy_network_programming_duration_seconds_bucket{job="cilium", instance="x", le="60"} 0+10x360
  kubeproxy_network_programming_duration_seconds_bucket{job="cilium", instance="x", le="+Inf"} 0+10x360
  kubernetes_build_info{job="kubelet", instance="10.0.0.1:10250", git_version="v1.36.1"} 1x360
  kube_node_info{job="kube-state-metrics", node="a"} 1x360
  kube_node_info{job="kube-state-metrics", node="b"} 1x360
`

// foreign are kube-prometheus' alerts that a service proxy can set off.
var foreign = []rulefmt.Rule{
	{Alert: "KubeProxyDown", Expr: `absent(up{job="kube-proxy"} == 1)`, For: model.Duration(15 * time.Minute)},
	{Alert: "KubeVersionMismatch", For: model.Duration(15 * time.Minute),
		Expr: `count by (cluster) (count by (git_version, cluster) (label_replace(kubernetes_build_info{job!~"kube-dns|coredns"}, "git_version", "$1", "git_version", "(v[0-9]*.[0-9]*).*"))) > 1`},
}

func alerts(t *testing.T) (rules []rulefmt.Rule) {
	t.Helper()
	groups, errs := rulefmt.ParseFile(alertsFile, false, model.UTF8Validation, newParser(), slog.Default())
	for _, err := range errs {
		t.Fatal(err)
	}
	for _, g := range groups.Groups {
		rules = append(rules, g.Rules...)
	}
	return rules
}

// firing returns the alerts that fire at some time with these series: true for as long as the alert's "for".
func firing(t *testing.T, rules []rulefmt.Rule, load string) (names []string) {
	t.Helper()
	store := promqltest.LoadedStorage(t, load)
	t.Cleanup(func() { _ = store.Close() })
	engine := promqltest.NewTestEngine(t, false, 5*time.Minute, 10_000_000)
	for _, r := range rules {
		q, err := engine.NewRangeQuery(t.Context(), store, nil, r.Expr, time.Unix(0, 0), time.Unix(0, 0).Add(length), step)
		must(t, err)
		matrix, err := q.Exec(t.Context()).Matrix()
		must(t, err)
		if slices.ContainsFunc(matrix, func(s promql.Series) bool { return holds(s, time.Duration(r.For)) }) {
			names = append(names, r.Alert)
		}
		q.Close()
	}
	return names
}

// holds says whether a series has a value at each step of some span of this length.
func holds(s promql.Series, span time.Duration) bool {
	begin := int64(0)
	for i, p := range s.Floats {
		if i == 0 || p.T-s.Floats[i-1].T > step.Milliseconds() {
			begin = p.T
		}
		if p.T-begin >= span.Milliseconds() {
			return true
		}
	}
	return false
}

// TestAlertsFire: each fires for what it is about, whatever the job's name is, and none for other jobs' troubles.
func TestAlertsFire(t *testing.T) {
	const b = `{job="JOB", instance="10.0.0.2:10249", node="b"}`
	var fired []string
	for name, c := range map[string]struct {
		replace, add string // a line of series that is replaced, or all by '-'
		want         []string
	}{
		"nothing":        {},
		"a node is down": {replace: `up` + b + ` 1x360`, add: `up` + b + " 1x100 0x260", want: []string{"NftproxyDown"}},
		"a target vanishes": {replace: "-b", add: "  up" + b + " 1x100\n  nftproxy_service_ports" + b + " 42x100",
			want: []string{"NftproxyGone"}},
		"all vanish":                {replace: "-", want: []string{"NftproxyAbsent"}},
		"service ports are refused": {add: "nftproxy_failing_service_ports" + b + " 1x360", want: []string{"NftproxyServicePortsRefused"}},
		"changes wait": {add: "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds" + b + " 5000x360\n  kubeproxy_sync_proxy_rules_last_timestamp_seconds" + b + " 100x360",
			want: []string{"NftproxyNotProgramming"}},
		"transactions are refused": {add: `nftproxy_transactions_refused_total{job="JOB", instance="10.0.0.2:10249", errno="ENOMEM"} 0+1x360`, want: []string{"NftproxyTransactionsRefused"}},
		"repairs":                  {add: "nftproxy_repairs_total" + b + " 0+1x360", want: []string{"NftproxyRepairs"}},
		"conflicts":                {add: "nftproxy_frontend_conflicts" + b + " 1x360", want: []string{"NftproxyFrontendConflicts"}},
		"left out":                 {add: `nftproxy_left_out{job="JOB", instance="10.0.0.2:10249", kind="ports"} 1x360`, want: []string{"NftproxyLeftOut"}},
		"API errors":               {add: `rest_client_requests_total{job="JOB", instance="10.0.0.2:10249", code="500"} 0+10x360`, want: []string{"NftproxyAPIErrors"}},
		"slow programming": {add: `kubeproxy_network_programming_duration_seconds_bucket{job="JOB", instance="10.0.0.2:10249", le="5"} 0x360
  kubeproxy_network_programming_duration_seconds_bucket{job="JOB", instance="10.0.0.2:10249", le="60"} 0+10x360
  kubeproxy_network_programming_duration_seconds_bucket{job="JOB", instance="10.0.0.2:10249", le="+Inf"} 0+10x360`, want: []string{"NftproxySlowProgramming"}},
		"slow syncs": {add: `nftproxy_sync_duration_seconds_bucket{job="JOB", instance="10.0.0.2:10249", le="1"} 0x360
  nftproxy_sync_duration_seconds_bucket{job="JOB", instance="10.0.0.2:10249", le="10"} 0+10x360
  nftproxy_sync_duration_seconds_bucket{job="JOB", instance="10.0.0.2:10249", le="+Inf"} 0+10x360`, want: []string{"NftproxySlowSyncs"}},
		"affinity":                  {add: "nftproxy_affinity_clients" + b + " 95x360\n  nftproxy_affinity_size" + b + " 100x360", want: []string{"NftproxyAffinityFull"}},
		"silent endpoints":          {add: "nftproxy_failover_suspended" + b + " 1x360", want: []string{"NftproxyEndpointsSilent"}},
		"nobody is silent":          {add: "nftproxy_failover_suspended" + b + " 0x360"},
		"silent for half a minute":  {add: "nftproxy_failover_suspended" + b + " 0x60 1 0x290"},
		"conntrack":                 {add: "nftproxy_conntrack_entries" + b + " 95x360\n  nftproxy_conntrack_entries_limit" + b + " 100x360", want: []string{"NftproxyConntrackFull"}},
		"conntrack without a limit": {add: "nftproxy_conntrack_entries" + b + " 95x360\n  nftproxy_conntrack_entries_limit" + b + " 0x360"},
	} {
		for _, job := range []string{"nftproxy-metrics", "kube-system/nftproxy", "kube-proxy"} {
			t.Run(name+"/"+strings.ReplaceAll(job, "/", "-"), func(t *testing.T) {
				var lines []string
				for line := range strings.SplitSeq(series, "\n") {
					drop := c.replace != "" && (strings.TrimSpace(line) == c.replace || strings.Contains(line, `job="JOB"`) &&
						(c.replace == "-" || c.replace == "-b" && strings.Contains(line, `node="b"`)))
					if !drop {
						lines = append(lines, line)
					}
				}
				load := strings.Join(lines, "\n") + "  " + strings.TrimSpace(c.add) + "\n"
				got := firing(t, alerts(t), strings.ReplaceAll(load, "JOB", job))
				if !slices.Equal(got, c.want) {
					t.Errorf("these fire: %q, want %q", got, c.want)
				}
				fired = append(fired, got...)
			})
		}
	}
	for _, r := range alerts(t) {
		if !slices.Contains(fired, r.Alert) {
			t.Errorf("no row makes %s fire", r.Alert)
		}
	}
}

// TestMigrationIsQuiet: with the job's name that kube-prometheus knows, and as the chart scrapes, its alerts do not fire; without
// that name KubeProxyDown does, as deploy/README.md says.
func TestMigrationIsQuiet(t *testing.T) {
	build := `  kubernetes_build_info{job="JOB", instance="10.0.0.1:10249", git_version="v1.37.2"} 1x360` + "\n"
	for job, want := range map[string][]string{"kube-proxy": nil, "nftproxy-metrics": {"KubeProxyDown"}} {
		if got := firing(t, foreign, strings.ReplaceAll(series, "JOB", job)); !slices.Equal(got, want) {
			t.Errorf("with the job %s kube-prometheus' alerts %q fire, want %q", job, got, want)
		}
	}
	if got := firing(t, foreign, strings.ReplaceAll(series+build, "JOB", "kube-proxy")); !slices.Equal(got, []string{"KubeVersionMismatch"}) {
		t.Errorf("with kubernetes_build_info, which the chart drops, %q fire", got)
	}
}

// TestDashboardCounts: other jobs in the same Prometheus are not counted, when Grafana puts its choices for "All".
func TestDashboardCounts(t *testing.T) {
	store := promqltest.LoadedStorage(t, strings.ReplaceAll(series, "JOB", "nftproxy-metrics"))
	t.Cleanup(func() { _ = store.Close() })
	engine := promqltest.NewTestEngine(t, false, 5*time.Minute, 1_000_000)
	d := readDashboard(t)
	for _, v := range d.Templating.List {
		if v.Name == "job" && v.AllValue != "" {
			t.Errorf("'All' of the variable job is %q, which is more than those that have nftproxy", v.AllValue)
		}
	}
	all := strings.NewReplacer("$cluster", ".*", "$job", "(nftproxy-metrics)", "$instance", ".*")
	for title, want := range map[string][]float64{"Nodes up": {2, 2}, "Service ports": {42}} {
		for _, p := range d.Panels {
			if p.Title != title {
				continue
			}
			for i, target := range p.Targets {
				q, err := engine.NewInstantQuery(t.Context(), store, nil, all.Replace(target.Expr), time.Unix(3600, 0))
				must(t, err)
				v, err := q.Exec(t.Context()).Vector()
				must(t, err)
				if len(v) != 1 || v[0].F != want[i] {
					t.Errorf("%s: %s is %v, want %v", title, target.Expr, v, want[i])
				}
				q.Close()
			}
		}
	}
	for _, p := range d.Panels {
		for _, target := range p.Targets {
			if p.Type == "timeseries" && strings.Contains(target.LegendFormat, "{{instance}}") && !strings.HasPrefix(target.Expr, "topk(10, ") {
				t.Errorf("panel %s has a line for each node of a large cluster: %s", p.Title, target.Expr)
			}
		}
	}
}

// TestRunbooks: each alert has its part of docs/runbooks.md, linked, and there is no other.
func TestRunbooks(t *testing.T) {
	page, err := os.ReadFile(runbooksFile)
	must(t, err)
	var names []string
	for _, r := range alerts(t) {
		names = append(names, r.Alert)
		if want := "https://github.com/nftproxy/nftproxy/blob/main/docs/runbooks.md#" + strings.ToLower(r.Alert); r.Annotations["runbook_url"] != want {
			t.Errorf("%s: runbook_url %q, want %q", r.Alert, r.Annotations["runbook_url"], want)
		}
	}
	var parts []string
	for line := range strings.Lines(string(page)) {
		if name, ok := strings.CutPrefix(line, "## "); ok {
			parts = append(parts, strings.TrimSpace(name))
		}
	}
	if !slices.Equal(parts, names) {
		t.Errorf("docs/runbooks.md has %q, want %q", parts, names)
	}
}
