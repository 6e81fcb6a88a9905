// SPDX-License-Identifier: Apache-2.0

package serve

import (
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/config"
)

// The texts of Kubernetes' own metrics of these names: Prometheus' library refuses to show one name with two texts, as where a
// program has both. kubernetes_build_info here has the version of the Kubernetes libraries in nftproxy.
const (
	buildHelp = "[BETA] A metric with a constant '1' value labeled by major, minor, git version, git commit, git tree state, build date, Go version, and compiler from which Kubernetes was built, and platform on which it is running."
	gateHelp  = "[BETA] This metric records the data about the stage and enablement of a k8s feature."
)

// Node tells of this program and of the node's connection tracking.
type Node struct {
	// Version is nftproxy's.
	Version string
	// ExternalIPs says whether Services may have externalIPs, which is a feature gate of Kubernetes.
	ExternalIPs bool
	// Root is the directory that has proc/sys/net; the kernel shows there the network namespace of who reads.
	Root string
}

// Describe implements prometheus.Collector: which metrics there are depends on the kernel.
func (Node) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (n Node) Collect(ch chan<- prometheus.Metric) {
	gauge := func(name, help string, value float64, labels prometheus.Labels) {
		ch <- prometheus.MustNewConstMetric(prometheus.NewDesc(name, help, nil, labels), prometheus.GaugeValue, value)
	}
	gauge("nftproxy_build_info", "1, with nftproxy's version.", 1, prometheus.Labels{"version": n.Version, "go_version": runtime.Version()})
	version := "unknown" // the binaries of go test do not say
	if info, ok := debug.ReadBuildInfo(); ok {
		version = libraries(info.Deps)
	}
	major, rest, _ := strings.Cut(strings.TrimPrefix(version, "v"), ".")
	minor, _, _ := strings.Cut(rest, ".")
	gauge("kubernetes_build_info", buildHelp, 1, prometheus.Labels{
		"major": major, "minor": minor, "git_version": version, "git_commit": "", "git_tree_state": "", "build_date": "",
		"go_version": runtime.Version(), "compiler": runtime.Compiler, "platform": runtime.GOOS + "/" + runtime.GOARCH})
	enabled := 0.0
	if n.ExternalIPs {
		enabled = 1
	}
	gauge("kubernetes_feature_enabled", gateHelp, enabled,
		prometheus.Labels{"name": config.GateExternalIPs, "stage": ""}) // Kubernetes leaves it empty for a gate that is stable
	n.number("nf_conntrack_count", func(v float64) {
		gauge("nftproxy_conntrack_entries", "Connections that the node's kernel tracks.", v, nil)
	})
	n.number("nf_conntrack_max", func(v float64) {
		gauge("nftproxy_conntrack_entries_limit", "Connections that the node's kernel can track; 0: no limit.", v, nil)
	})
}

// number gives what a file of connection tracking holds. Without connection tracking there is none.
func (n Node) number(file string, to func(float64)) {
	text, err := os.ReadFile(filepath.Join(n.Root, "proc/sys/net/netfilter", file))
	if err != nil {
		return
	}
	if v, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64); err == nil {
		to(float64(v))
	}
}

// libraries returns the version of Kubernetes that client-go belongs to: its v0.37.2 is v1.37.2.
func libraries(deps []*debug.Module) string {
	for _, dep := range deps {
		if rest, ok := strings.CutPrefix(dep.Version, "v0."); ok && dep.Path == "k8s.io/client-go" {
			return "v1." + rest
		}
	}
	return "unknown"
}
