// SPDX-License-Identifier: Apache-2.0

//go:build linux

package packets

import (
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"
	corev1 "k8s.io/api/core/v1"

	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/traffic"
)

func scheduler(name string) option {
	return func(s *corev1.Service) { s.Annotations = map[string]string{"nftproxy.io/scheduler": name} }
}

// The scheduler is the flag's or the annotation's.
func TestSchedulers(t *testing.T) {
	t.Parallel()
	for _, flag := range []string{"", "random", "source-hash"} {
		t.Run("flag "+flag, func(t *testing.T) {
			t.Parallel()
			args := []string{"--node-ip", "172.18.0.2,fd00:172:18::2"}
			if flag != "" {
				args = append(args, "--scheduler", flag)
			}
			w := newWorld(t, config{args: args})
			hosts := []netns.Host{w.Local[0], w.RemotePods[0], w.RemotePods[1]}
			byFlag := w.full("by-flag").to(ready(hosts...))
			unknown := w.full("unknown", scheduler("fastest")).to(ready(hosts...))
			robin := w.full("robin", scheduler("round-robin")).to(ready(hosts...))
			random := w.full("random", scheduler("random")).to(ready(hosts...))
			hash := w.full("hash", scheduler("source-hash")).to(ready(hosts...))
			w.apply(t, byFlag, unknown, robin, random, hash)
			w.wantLog(t, `scheduler \"fastest\" is none of round-robin, random, source-hash, client-hash, maglev, least-connections`)
			for s, name := range map[*svc]string{byFlag: flag, unknown: flag, robin: "", random: "random", hash: "source-hash"} {
				for _, fe := range []frontend{clusterIP, nodePort, loadBalancer} {
					for _, p := range traffic.Protocols() {
						for _, f := range netns.Families() {
							if got := schedulerOf(t, w, p, w.address(s, fe, p, f)); got != name {
								t.Errorf("%s %s %s %s: spread by %q, want %q", s.Name, fe, p, f, got, name)
							}
						}
					}
				}
			}
		})
	}
}

// schedulerOf tells how connections to an address with three endpoints are spread:
// as source-hash if clients of the same port always get the same one and those of
// others get all, as round robin if they are in turn, else by chance.
func schedulerOf(t *testing.T, w *world, p traffic.Protocol, to netip.AddrPort) string {
	t.Helper()
	const ports = 12 // all get the same endpoint by chance once in 177,147 times
	const most = 200 // one endpoint is missed by chance once in 10^34 times
	var results []traffic.Result
	backends := map[netip.AddrPort]bool{}
	for len(results) < 2*ports || len(backends) < 3 && len(results) < most {
		source := netip.AddrPortFrom(w.Client.Addr(familyOf(to.Addr())), w.Client.NextPort())
		r := traffic.Client{NS: w.Client.NS, Source: source}.Connect(t.Context(), p, to)
		if r.Outcome != traffic.Answered {
			t.Fatalf("to %s %s: %s", p, to, r)
		}
		results, backends[r.Backend] = append(results, r), true
	}
	robin := true
	for i, r := range results {
		robin = robin && (i < 3 || r.Backend == results[i-3].Backend)
	}
	if len(backends) != 3 {
		t.Fatalf("to %s %s: %d endpoints answered, want 3", p, to, len(backends))
	}
	if robin {
		return ""
	}
	// The same ports again must be new connections to the node.
	if err := w.Node.Do(func() error { return netlink.ConntrackTableFlush(netlink.ConntrackTable) }); err != nil {
		t.Fatal(err)
	}
	for _, r := range results[:ports] {
		again := traffic.Client{NS: w.Client.NS, Source: r.Local}.Connect(t.Context(), p, to)
		if again.Outcome != traffic.Answered {
			t.Fatalf("to %s %s, again from %s: %s", p, to, r.Local, again)
		}
		if again.Backend != r.Backend {
			return "random"
		}
	}
	return "source-hash"
}
