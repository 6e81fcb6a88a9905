// SPDX-License-Identifier: Apache-2.0

package report

import (
	"math/rand/v2"
	"time"
)

// slowness is how much more a peer takes than nftproxy, in the synthetic results.
var slowness = map[string]float64{Nftproxy: 1, KubeProxyNftables: 12, KubeProxyIptables: 40, Failover: 1.2, Floor: 0.2}

// synthetic makes results of everything: the same for a seed. kube-proxy's iptables mode
// fails with 1,000 Services.
func synthetic(seed uint64) *Results {
	random := rand.New(rand.NewPCG(seed, 1))
	r := &Results{
		Began: time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC), Took: 20 * time.Minute,
		Plan: Plan{Name: "full", Sizes: []int{1, 100, 1000}, Endpoints: 3, Rounds: 2,
			ControlSizes: []int{100, 1000}, DataSizes: []int{1, 1000}, DisruptionSizes: []int{1000}, RollSizes: []int{1000}},
		Machine: Machine{CPU: "a CPU <x>", Cores: 2, MemoryMB: 24000, Kernel: "6.18.1", OS: "Debian", Go: "go1.26",
			Kubernetes: "v1.37.2", Commit: "nftproxy 0123abc", Programs: map[string]string{"nft": "nftables v1.0.6"}},
	}
	add := func(metric, peer string, size, round, n int, target string, base float64) {
		m := Measurement{Metric: metric, Peer: peer, Services: size, Round: round, Target: target}
		noise := 0.1
		if kind, _ := MetricNamed(metric); kind.Group == Data {
			noise = 0.005
		}
		for range n {
			m.Samples = append(m.Samples, base*(1+noise*random.NormFloat64()))
		}
		r.Measurements = append(r.Measurements, m)
	}
	for round := range r.Plan.Rounds {
		for _, peer := range []string{Nftproxy, KubeProxyNftables, KubeProxyIptables, Failover, Floor} {
			slow := slowness[peer]
			for _, size := range r.Plan.Sizes {
				if peer == KubeProxyIptables && size == 1000 {
					continue
				}
				for _, m := range Metrics() {
					addSynthetic(add, m, peer, size, round, slow)
				}
			}
		}
		r.Failures = append(r.Failures, Failure{Peer: KubeProxyIptables, Services: 1000, Step: "start",
			TooSlow: true, Error: "not all Services are programmed after 5m0s: <no answer>"})
	}
	for i, name := range Schedulers() {
		for round := range r.Plan.Rounds {
			off := float64(i + round)
			r.Measurements = append(r.Measurements, Measurement{Metric: "spread", Peer: Nftproxy, Services: 1, Target: Scheduler + name,
				Round: round, Samples: []float64{100 + off, 100, 100 - off}})
		}
	}
	return r
}

// addSynthetic adds samples of a metric, where the harness does.
func addSynthetic(add func(metric, peer string, size, round, n int, target string, base float64), m Metric, peer string, size, round int, slow float64) {
	proxy := peer != Floor && peer != Failover
	switch {
	case m.Group == Control && (proxy || peer == Floor && m.Name == "start") && size > 1:
		n := 1
		if m.Name == "change" {
			n = 25
		}
		base := float64(size) / 100 * slow
		if m.Name == "late" || m.Name == "memory-programs" && peer == Nftproxy {
			base = 0
		}
		add(m.Name, peer, size, round, n, "", base)
	case m.Group == Data && peer != Floor && size != 100:
		if m.Name == "connect" {
			for _, from := range []string{FromPod, FromNode} {
				add(m.Name, peer, size, round, 30, from+Without, 45)
				add(m.Name, peer, size, round, 30, from+OneRule, 50)
				for _, target := range []string{Direct, First, Middle, Last} {
					add(m.Name, peer, size, round, 30, from+target, 50+slow/10)
				}
			}
			return
		}
		add(m.Name, peer, size, round, 8, FromPod+Without, 50)
		add(m.Name, peer, size, round, 8, FromPod+OneRule, 46)
		add(m.Name, peer, size, round, 8, FromPod+Direct, 48)
		add(m.Name, peer, size, round, 8, FromPod+Service, 45)
	case m.Group == Fairness && proxy && size == 1:
		add(m.Name, peer, size, round, 3, "", 100)
	case m.Group == Disruption && proxy && size == 1000:
		for _, target := range []string{Restart, Backends} {
			base := slow - 1
			if m.Name == "attempts" {
				base = 1000
			}
			add(m.Name, peer, size, round, 1, target, base)
		}
	}
}
