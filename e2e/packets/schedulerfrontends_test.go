// SPDX-License-Identifier: Apache-2.0

//go:build linux

package packets

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/traffic"
	"github.com/nftproxy/nftproxy/rules"
)

// answersFromAny checks that one of some hosts answers.
func answersFromAny(t *testing.T, what string, from netns.Host, p traffic.Protocol, to netip.AddrPort, hosts ...netns.Host) {
	t.Helper()
	r := traffic.Client{NS: from.NS, Timeout: patience}.Connect(t.Context(), p, to)
	if !slices.ContainsFunc(hosts, func(h netns.Host) bool { return h.Addr(familyOf(to.Addr())) == r.Backend.Addr() }) {
		t.Errorf("%s: from %s to %s %s: %s", what, from.Name(), p, to, r)
	}
}

// Ranges that may not connect go with each scheduler: they are kept from load balancer addresses, and from nothing else; all others get there.
func TestDeniedRangesBesideSchedulers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, config{args: []string{"--node-ip", "172.18.0.2,fd00:172:18::2"}})
	hosts := []netns.Host{w.Local[0], w.RemotePods[0]}
	var services []*svc
	for _, name := range rules.SchedulerNames() {
		services = append(services, w.full(name, annotated("nftproxy.io/scheduler", name, "nftproxy.io/src-ranges-policy", "deny"),
			sourceRanges(w.Outside.V4.String()+"/32", w.Outside.V6.String()+"/128")).to(ready(hosts...)))
	}
	w.apply(t, services...)
	for _, s := range services {
		for _, p := range traffic.Protocols() {
			for _, f := range netns.Families() {
				w.want(t, w.Outside, p, w.address(s, loadBalancer, p, f), dropped())
				answersFromAny(t, s.Name, w.Client, p, w.address(s, loadBalancer, p, f), hosts...)
				for _, fe := range []frontend{clusterIP, nodePort, externalIP} {
					answersFromAny(t, s.Name+" "+fmt.Sprint(fe), w.Outside, p, w.address(s, fe, p, f), hosts...)
				}
			}
		}
	}
	// Without the policy they are those that may.
	for _, s := range services {
		delete(s.Annotations, "nftproxy.io/src-ranges-policy")
	}
	w.apply(t, services...)
	for _, s := range services {
		for _, p := range traffic.Protocols() {
			for _, f := range netns.Families() {
				w.want(t, w.Client, p, w.address(s, loadBalancer, p, f), dropped())
				answersFromAny(t, s.Name, w.Outside, p, w.address(s, loadBalancer, p, f), hosts...)
			}
		}
	}
}

// A Service of the type NodePort is served there alone, with each scheduler, and of a type that is changed at once where that says.
func TestTypesBesideSchedulers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, config{args: []string{"--node-ip", "172.18.0.2,fd00:172:18::2"}})
	hosts := []netns.Host{w.Local[0], w.RemotePods[0]}
	var services []*svc
	for _, name := range rules.SchedulerNames() {
		services = append(services, w.full(name, annotated("nftproxy.io/scheduler", name, "nftproxy.io/type", "NodePort")).to(ready(hosts...)))
	}
	for _, step := range []struct {
		kind   string
		served []frontend
	}{{"NodePort", []frontend{nodePort}}, {"NodePort,ExternalIP", []frontend{nodePort, externalIP}}, {"ClusterIP", []frontend{clusterIP}}} {
		for _, s := range services {
			s.Annotations["nftproxy.io/type"] = step.kind
		}
		w.apply(t, services...)
		for _, s := range services {
			for _, p := range traffic.Protocols() {
				for _, f := range netns.Families() {
					for _, fe := range []frontend{clusterIP, nodePort, loadBalancer, externalIP} {
						what := fmt.Sprintf("%s of the type %s, %v", s.Name, step.kind, fe)
						if slices.Contains(step.served, fe) {
							answersFromAny(t, what, w.Outside, p, w.address(s, fe, p, f), hosts...)
							continue
						}
						if r := (traffic.Client{NS: w.Outside.NS, Timeout: dropTimeout}).Connect(t.Context(), p, w.address(s, fe, p, f)); r.Outcome == traffic.Answered {
							t.Errorf("%s: %s", what, r)
						}
					}
				}
			}
		}
	}
}

// sharesOf makes connections and says how many each host got.
func sharesOf(t *testing.T, from netns.Host, p traffic.Protocol, to netip.AddrPort, n int, hosts ...netns.Host) string {
	t.Helper()
	got := make([]int, len(hosts))
	for range n {
		r := traffic.Client{NS: from.NS, Timeout: patience}.Connect(t.Context(), p, to)
		i := slices.IndexFunc(hosts, func(h netns.Host) bool { return h.Addr(familyOf(to.Addr())) == r.Backend.Addr() })
		if i < 0 {
			t.Errorf("from %s to %s %s: %s", from.Name(), p, to, r)
			continue
		}
		got[i]++
	}
	return strings.Trim(fmt.Sprint(got), "[]")
}

// Weights under externalTrafficPolicy Local: those of endpoints on this node count at NodePorts and addresses of load balancers, those of all
// endpoints at the ClusterIP.
func TestWeightsUnderLocal(t *testing.T) {
	t.Parallel()
	w := newWorld(t, config{args: []string{"--node-ip", "172.18.0.2,fd00:172:18::2"}})
	hosts := []netns.Host{w.Local[0], w.Local[1], w.RemotePods[0]}
	s := w.full("weighed", externalLocal)
	for _, step := range []struct {
		weights        [3]string
		local, cluster string // of eight and of nine connections
	}{
		{[3]string{"3", "1", "5"}, "6 2 0", "3 1 5"},
		{[3]string{"1", "0", "2"}, "8 0 0", "3 0 6"},
		{[3]string{"0", "0", "7"}, "4 4 0", "0 0 9"}, // where all have none, all get the same
		{[3]string{"1", "7", "1"}, "1 7 0", "1 7 1"},
	} {
		w.apply(t, s.weighing(map[string]string{"0": step.weights[0], "1": step.weights[1], "2": step.weights[2]}, hosts...))
		for _, p := range traffic.Protocols() {
			for _, f := range netns.Families() {
				for _, fe := range []frontend{nodePort, loadBalancer, externalIP} {
					if got := sharesOf(t, w.Outside, p, w.address(s, fe, p, f), 8, hosts...); got != step.local {
						t.Errorf("weights %v, %v %s %s: %s, want %s", step.weights, fe, p, f, got, step.local)
					}
				}
				if got := sharesOf(t, w.Client, p, w.address(s, clusterIP, p, f), 9, hosts...); got != step.cluster {
					t.Errorf("weights %v, ClusterIP %s %s: %s, want %s", step.weights, p, f, got, step.cluster)
				}
			}
		}
	}
}
