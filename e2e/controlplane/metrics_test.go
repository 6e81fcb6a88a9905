// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"fmt"
	"io"
	"maps"
	"math"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"k8s.io/component-base/metrics/legacyregistry"
	kubeproxyconfig "k8s.io/kubernetes/pkg/proxy/apis/config"
	kubeproxymetrics "k8s.io/kubernetes/pkg/proxy/metrics"

	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/proxy"
)

// family is what dashboards and alerts rely on.
type family struct {
	Type    string
	Labels  string // their names
	Values  string // of ip_family and traffic_policy, of kubeproxy_*
	Buckets string
}

// TestKubeProxyMetrics: each metric of kube-proxy in nftables mode, after the same
// changes, has the same name, type, labels and buckets in nftproxy, and there is no
// other of these prefixes.
func TestKubeProxyMetrics(t *testing.T) {
	s := newSite(t)
	must(t, s.cp.EnsureNamespace(t.Context(), "shop"))
	s.pods("web", s.Local[0])
	web := s.service("web", nil)
	changing := s.Local[1]
	metrics := func(c proxy.Config, cleanup ...string) map[string]family {
		p, err := proxy.Start(c)
		must(t, err)
		t.Cleanup(p.Kill)
		s.want(web, s.Local[0])
		must(t, s.cp.DeleteBackends(t.Context(), "shop", "web"))
		s.pods("web", changing) // a change after the start: partial syncs and programming latency
		s.want(web, changing)
		must(t, s.cp.DeleteBackends(t.Context(), "shop", "web"))
		s.pods("web", s.Local[0]) // once this is in effect, what came before is counted
		s.want(web, s.Local[0])
		for _, path := range []string{"/healthz", "/livez"} {
			s.page(t, "127.0.0.1:10256", path)
		}
		families := kubeProxyFamilies(t, s.page(t, "127.0.0.1:10249", "/metrics"))
		p.Kill()
		c.Args = cleanup
		_, err = proxy.Run(t.Context(), c)
		must(t, err)
		return families
	}
	args := []string{"--kubeconfig", s.cp.Kubeconfig(), "--hostname-override", "node", "--cluster-cidr", netns.ClusterCIDR4 + "," + netns.ClusterCIDR6}
	want := metrics(proxy.Config{NS: s.Node.NS, Env: []string{kubeProxyEnv + "=1"},
		Args: append(args, "--proxy-mode", "nftables", "--conntrack-max-per-core", "0")}, "--cleanup")
	got := metrics(proxy.Config{NS: s.Node.NS, Env: []string{runEnv + "=1"}, Args: append([]string{"run"}, args...)}, "cleanup")
	count := map[string]int{}
	for name := range want {
		prefix, _, _ := strings.Cut(name, "_")
		count[prefix]++
	}
	if count["kubeproxy"] < 14 || count["rest"] < 8 || count["go"] < 50 || count["process"] < 5 {
		t.Fatalf("kube-proxy has only %v metrics: %v", count, slices.Sorted(maps.Keys(want)))
	}
	for name, f := range rareFamilies(t) {
		if _, ok := want[name]; !ok {
			want[name] = f
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-kube-proxy +nftproxy):\n%s", diff)
	}
}

// rareFamilies returns those that kube-proxy exposes only after a failure, or of Pods
// that say when they became ready, from its own source. Other modes' are not among them.
func rareFamilies(t *testing.T) map[string]family {
	t.Helper()
	kubeproxymetrics.RegisterMetrics(kubeproxyconfig.ProxyModeNFTables)
	for _, f := range []string{"IPv4", "IPv6"} {
		kubeproxymetrics.NFTablesSyncFailuresTotal.WithLabelValues(f)
		kubeproxymetrics.NFTablesCleanupFailuresTotal.WithLabelValues(f)
		kubeproxymetrics.NetworkProgrammingLatency.WithLabelValues(f).Observe(1)
	}
	families, err := legacyregistry.DefaultGatherer.Gather()
	must(t, err)
	out := map[string]family{}
	for _, f := range families {
		if strings.HasPrefix(f.GetName(), "kubeproxy_") {
			out[f.GetName()] = describe(f)
		}
	}
	return out
}

// page returns the body of a page on the node.
func (s *site) page(t *testing.T, address, path string) string {
	t.Helper()
	var text []byte
	must(t, s.Node.Do(func() error {
		conn, err := net.DialTimeout("tcp", address, 5*time.Second)
		if err != nil {
			return err
		}
		defer conn.Close()
		if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.0\r\n\r\n", path); err != nil {
			return err
		}
		text, err = io.ReadAll(conn)
		return err
	}))
	_, body, _ := strings.Cut(string(text), "\r\n\r\n")
	return body
}

func kubeProxyFamilies(t *testing.T, text string) map[string]family {
	t.Helper()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	must(t, err)
	out := map[string]family{}
	for name, f := range families {
		prefix, _, _ := strings.Cut(name, "_")
		switch d := describe(f); prefix {
		case "kubeproxy":
			out[name] = d
		case "rest", "go", "process": // as much as was done
			d.Values = ""
			out[name] = d
		}
	}
	return out
}

func describe(f *dto.MetricFamily) family {
	labels, values, buckets := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for _, m := range f.Metric {
		for _, l := range m.Label {
			labels[l.GetName()] = true
			if l.GetName() != "code" {
				values[l.GetValue()] = true
			}
		}
		for _, b := range m.GetHistogram().GetBucket() {
			if math.IsInf(b.GetUpperBound(), 1) {
				continue // only where it was text once
			}
			buckets[fmt.Sprintf("%08.4f", b.GetUpperBound())] = true
		}
	}
	list := func(m map[string]bool) string { return strings.Join(slices.Sorted(maps.Keys(m)), " ") }
	return family{f.GetType().String(), list(labels), list(values), list(buckets)}
}
