// SPDX-License-Identifier: Apache-2.0

package serve

import (
	"os"
	"path/filepath"
	"runtime/debug"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"k8s.io/component-base/metrics"
)

// gathered returns the value and the labels of each metric of a collector.
func gathered(t *testing.T, c prometheus.Collector) (values map[string]float64, labels map[string]map[string]string) {
	t.Helper()
	r := prometheus.NewRegistry()
	r.MustRegister(c)
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	values, labels = map[string]float64{}, map[string]map[string]string{}
	for _, f := range families {
		var m *dto.Metric = f.Metric[0]
		values[f.GetName()], labels[f.GetName()] = m.Gauge.GetValue(), map[string]string{}
		for _, l := range m.Label {
			labels[f.GetName()][l.GetName()] = l.GetValue()
		}
	}
	return values, labels
}

func TestNode(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "proc/sys/net/netfilter")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for file, text := range map[string]string{"nf_conntrack_count": "7\n", "nf_conntrack_max": "262144\n"} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	values, labels := gathered(t, Node{Version: "v9", ExternalIPs: true, Root: root})
	if values["nftproxy_conntrack_entries"] != 7 || values["nftproxy_conntrack_entries_limit"] != 262144 {
		t.Errorf("the values are %v", values)
	}
	if values["kubernetes_feature_enabled"] != 1 || labels["kubernetes_feature_enabled"]["name"] != "AllowServiceExternalIPs" {
		t.Errorf("the gate is %v, %v", values["kubernetes_feature_enabled"], labels["kubernetes_feature_enabled"])
	}
	if labels["nftproxy_build_info"]["version"] != "v9" || labels["kubernetes_build_info"]["git_version"] == "" {
		t.Errorf("the versions are %v, %v", labels["nftproxy_build_info"], labels["kubernetes_build_info"])
	}
	if got := libraries([]*debug.Module{{Path: "k8s.io/api", Version: "v0.1.0"}, {Path: "k8s.io/client-go", Version: "v0.37.2"}}); got != "v1.37.2" {
		t.Errorf("client-go v0.37.2 is of Kubernetes %s, want v1.37.2", got)
	}
	if values, _ := gathered(t, Node{Root: t.TempDir()}); len(values) != 3 || values["kubernetes_feature_enabled"] != 0 {
		t.Errorf("without connection tracking there are %v", values)
	}
}

// TestNodeBesideKubernetes: a program that has Kubernetes' own metrics of the same names, too, shows both.
func TestNodeBesideKubernetes(t *testing.T) {
	ours, theirs := prometheus.NewRegistry(), metrics.NewKubeRegistry()
	ours.MustRegister(Node{Version: "v9", Root: t.TempDir()})
	metrics.RegisterBuildInfo(theirs)
	families, err := prometheus.Gatherers{ours, theirs}.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "kubernetes_build_info" && len(f.Metric) == 2 {
			return
		}
	}
	t.Errorf("kubernetes_build_info is not there twice: %v", families)
}
