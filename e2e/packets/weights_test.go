// SPDX-License-Identifier: Apache-2.0

//go:build linux

package packets

import (
	"fmt"
	"maps"
	"net/netip"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/traffic"
)

// annotated adds annotations, as name and value in turn.
func annotated(list ...string) option {
	return func(s *corev1.Service) {
		s.Annotations = map[string]string{}
		for i := 0; i < len(list); i += 2 {
			s.Annotations[list[i]] = list[i+1]
		}
	}
}

// weighing gives the service a slice of each family for each host, with its weight.
func (s *svc) weighing(weights map[string]string, hosts ...netns.Host) *svc {
	s.slices = nil
	for i, h := range hosts {
		for _, f := range netns.Families() {
			es := s.slice(fmt.Sprint(strings.ToLower(f.String()), "-", i), f, ready(h))
			es.Annotations = map[string]string{}
			maps.Copy(es.Annotations, map[string]string{"nftproxy.io/weight": weights[fmt.Sprint(i)]})
			s.add(es)
		}
	}
	return s
}

// counts makes eight connections and says how many each host got.
func (w *world) counts(t *testing.T, p traffic.Protocol, to netip.AddrPort, hosts ...netns.Host) string {
	t.Helper()
	got := make([]int, len(hosts))
	for _, r := range connect(t.Context(), traffic.Client{NS: w.Client.NS}, p, to, 8) {
		if r.Outcome != traffic.Answered {
			t.Fatalf("to %s %s: %s", p, to, r)
		}
		for i, h := range hosts {
			if h.Addr(familyOf(to.Addr())) == r.Backend.Addr() {
				got[i]++
			}
		}
	}
	return strings.Trim(fmt.Sprint(got), "[]")
}

// Weights of slices count at all frontends, in all protocols and families, with affinity on top or not, and as soon as they change.
func TestWeights(t *testing.T) {
	t.Parallel()
	w := newWorld(t, config{args: []string{"--node-ip", "172.18.0.2,fd00:172:18::2"}})
	here, there := w.Local[0], w.RemotePods[0]
	s := w.full("weighed").weighing(map[string]string{"0": "3", "1": "1"}, here, there)
	near := w.full("near", annotated("nftproxy.io/local-weight", "7")).to(ready(here, there))
	typed := w.full("typed", annotated("nftproxy.io/type", "LoadBalancer")).to(ready(here))
	elsewhere := w.full("elsewhere", annotated("nftproxy.io/node-selector", "no=such")).to(ready(here))
	w.apply(t, s, near, typed, elsewhere)
	for _, step := range []struct {
		weights [2]string
		want    string
	}{{[2]string{"3", "1"}, "6 2"}, {[2]string{"1", "7"}, "1 7"}, {[2]string{"0", "1"}, "0 8"}, {[2]string{"0", "0"}, "4 4"}} {
		w.apply(t, s.weighing(map[string]string{"0": step.weights[0], "1": step.weights[1]}, here, there))
		for _, fe := range []frontend{clusterIP, nodePort, loadBalancer} {
			for _, p := range traffic.Protocols() {
				for _, f := range netns.Families() {
					if got := w.counts(t, p, w.address(s, fe, p, f), here, there); got != step.want {
						t.Errorf("weights %v, %s %s %s: %s, want %s", step.weights, fe, p, f, got, step.want)
					}
				}
			}
		}
	}
	for _, f := range netns.Families() {
		for _, p := range traffic.Protocols() {
			if got := w.counts(t, p, w.address(near, clusterIP, p, f), here, there); got != "7 1" {
				t.Errorf("local-weight 7, %s %s: %s", p, f, got)
			}
			if got := w.counts(t, p, w.address(typed, loadBalancer, p, f), here); got != "8" {
				t.Errorf("type LoadBalancer, %s %s: %s", p, f, got)
			}
		}
		tcp := traffic.Protocols()[0]
		for what, to := range map[string]netip.AddrPort{"type": w.address(typed, clusterIP, tcp, f), "node-selector": w.address(elsewhere, clusterIP, tcp, f)} {
			r := traffic.Client{NS: w.Client.NS}.Connect(t.Context(), tcp, to)
			if r.Outcome == traffic.Answered {
				t.Errorf("%s: %s answers at the ClusterIP", what, r)
			}
		}
	}
}
