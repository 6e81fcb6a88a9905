// SPDX-License-Identifier: Apache-2.0

package serve

import (
	"errors"
	"runtime/debug"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"k8s.io/component-base/metrics"

	"github.com/nftproxy/nftproxy/conntrack"
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

// unused is a node without connection tracking.
func unused() (conntrack.Usage, error) { return conntrack.Usage{}, errors.New("none") }

func TestNode(t *testing.T) {
	used := func() (conntrack.Usage, error) { return conntrack.Usage{Entries: 7, Max: 262144}, nil }
	values, labels := gathered(t, Node{Version: "v9", ExternalIPs: true, Usage: used})
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
	if values, _ := gathered(t, Node{Usage: unused}); len(values) != 3 || values["kubernetes_feature_enabled"] != 0 {
		t.Errorf("without connection tracking there are %v", values)
	}
}

// TestNodeBesideKubernetes: a program that has Kubernetes' own metrics of the same names, too, shows both.
func TestNodeBesideKubernetes(t *testing.T) {
	ours, theirs := prometheus.NewRegistry(), metrics.NewKubeRegistry()
	ours.MustRegister(Node{Version: "v9", Usage: unused})
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
