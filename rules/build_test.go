// SPDX-License-Identifier: Apache-2.0

package rules_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/nftproxy/nftproxy/internal/golden"
	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/tracer"
)

var podCIDRs = []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd00:10:244::/56")}

func local(endpoints []rules.Endpoint) []rules.Endpoint {
	for i := range endpoints {
		endpoints[i].Local = true
	}
	return endpoints
}

// TestBuildText shows the objects of each kind of service port as nft text.
func TestBuildText(t *testing.T) {
	for name, build := range map[string][]rules.Owned{
		"empty":          nil,
		"reject":         {owned(servicePort("", rules.TCP, "10.96.0.10:80"), nil)},
		"single":         {owned(servicePort("", rules.TCP, "10.96.0.10:80"), ready("10.244.2.2:8080"))},
		"several":        {owned(servicePort("http", rules.TCP, "10.96.0.10:80"), ready("10.244.2.2:8080", "10.244.2.3:8080", "10.244.2.4:8080"))},
		"hairpin":        {owned(servicePort("", rules.UDP, "10.96.0.10:53"), local(ready("10.244.1.2:53", "10.244.1.2:5353")))},
		"ipv6":           {owned(servicePort("sig", rules.SCTP, "[fd00:10:96::a]:36412"), ready("[fd00:10:244:2::2]:36412", "[fd00:10:244:2::3]:36412"))},
		"two-ports":      {owned(servicePort("dns", rules.UDP, "10.96.0.10:53"), ready("10.244.2.2:53", "10.244.2.3:53")), owned(servicePort("dns-tcp", rules.TCP, "10.96.0.10:53"), ready("10.244.2.2:53", "10.244.2.3:53"))},
		"external":       {owned(full(), on("10.244.1.2:8080", "10.244.2.2:8080"))},
		"external-local": {owned(with(full(), func(sp *rules.ServicePort) { sp.ExternalLocal = true }), on("10.244.1.2:8080", "10.244.2.2:8080"))},
		"source-ranges":  {owned(with(full(), sources("10.9.0.0/16", "10.8.0.0/16", "192.168.7.3/32")), on("10.244.2.2:8080"))},
		"affinity":       {owned(with(full(), func(sp *rules.ServicePort) { sp.Affinity, sp.ExternalLocal = 10800, true }), on("10.244.1.2:8080", "10.244.2.2:8080"))},
		"random":         {owned(with(full(), func(sp *rules.ServicePort) { sp.Scheduler = rules.Random }), on("10.244.1.2:8080", "10.244.2.2:8080"))},
		"source-hash":    {owned(with(full(), func(sp *rules.ServicePort) { sp.Scheduler = rules.SourceHash }), on("10.244.1.2:8080", "10.244.2.2:8080"))},
	} {
		t.Run(name, func(t *testing.T) {
			d := rules.NewDesired(testConfig, testNode)
			d.Update(build)
			golden.Check(t, golden.Named(t, ".nft"), text(t, d.State()))
			golden.Check(t, golden.Named(t, ".json"), written(t, d.State().WriteJSON))
		})
	}
}

func with(sp rules.ServicePort, change func(*rules.ServicePort)) rules.ServicePort {
	change(&sp)
	return sp
}

func TestBuildConfig(t *testing.T) {
	for name, config := range map[string]rules.Config{
		"no-pod-cidr":    {},
		"masquerade-all": {MasqueradeAll: true, PodCIDRs: podCIDRs},
		"every-pod-cidr": {PodCIDRs: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}},
		"interface":      {PodInterface: "veth*"},
		"all-nodeports":  {AllNodePortIPs: true},
		"other-mark":     {MasqueradeMark: 1 << 31, PodCIDRs: podCIDRs[:1], Table: "other"},
	} {
		t.Run(name, func(t *testing.T) {
			golden.Check(t, golden.Named(t, ".nft"), text(t, rules.NewDesired(config, testNode).State()))
		})
	}
}

// TestBuiltOutcomes sends packets through what Build makes.
func TestBuiltOutcomes(t *testing.T) {
	pod, node, outside := "10.244.1.10:40000", "172.18.0.2:40000", "172.18.0.1:40000"
	web := "10.96.0.10:80"
	for _, tt := range []struct {
		name      string
		config    rules.Config
		endpoints []rules.Endpoint
		src, dst  string
		proto     rules.Protocol
		fromNode  bool
		want      []string // one for each packet sent
	}{
		{"round robin", rules.Config{}, ready("10.244.2.2:8080", "10.244.2.3:8080", "10.244.2.4:8080"), pod, web, rules.TCP, false,
			[]string{"10.244.2.3:8080", "10.244.2.4:8080", "10.244.2.2:8080", "10.244.2.3:8080"}},
		{"one endpoint", rules.Config{}, ready("10.244.2.2:8080"), pod, web, rules.TCP, false, []string{"10.244.2.2:8080", "10.244.2.2:8080"}},
		{"no endpoint", rules.Config{}, nil, pod, web, rules.TCP, false, []string{"rejected"}},
		{"no endpoint, from the node", rules.Config{}, nil, node, web, rules.TCP, true, []string{"rejected"}},
		{"from the node", rules.Config{PodCIDRs: podCIDRs}, ready("10.244.2.2:8080"), node, web, rules.TCP, true, []string{"10.244.2.2:8080 masqueraded"}},
		{"from outside", rules.Config{PodCIDRs: podCIDRs}, ready("10.244.2.2:8080"), outside, web, rules.TCP, false, []string{"10.244.2.2:8080 masqueraded"}},
		{"from outside, where pods are is not known", rules.Config{}, ready("10.244.2.2:8080"), outside, web, rules.TCP, false, []string{"10.244.2.2:8080"}},
		{"from a pod", rules.Config{PodCIDRs: podCIDRs}, ready("10.244.2.2:8080"), pod, web, rules.TCP, false, []string{"10.244.2.2:8080"}},
		{"masquerade all", rules.Config{MasqueradeAll: true}, ready("10.244.2.2:8080"), pod, web, rules.TCP, false, []string{"10.244.2.2:8080 masqueraded"}},
		{"hairpin", rules.Config{PodCIDRs: podCIDRs}, local(ready("10.244.1.10:8080")), pod, web, rules.TCP, false, []string{"10.244.1.10:8080 masqueraded"}},
		{"two local pods", rules.Config{PodCIDRs: podCIDRs}, local(ready("10.244.1.10:8080", "10.244.1.11:8080")), pod, web, rules.TCP, false,
			[]string{"10.244.1.11:8080", "10.244.1.10:8080 masqueraded"}},
		{"a port that the service has not", rules.Config{}, ready("10.244.2.2:8080"), pod, "10.96.0.10:81", rules.TCP, false, []string{"rejected"}},
		{"a protocol that the service has not", rules.Config{}, ready("10.244.2.2:8080"), pod, web, rules.UDP, false, []string{"rejected"}},
		{"no service's address", rules.Config{PodCIDRs: podCIDRs, MasqueradeAll: true}, ready("10.244.2.2:8080"), outside, "10.96.0.11:80", rules.TCP, false, []string{"10.96.0.11:80"}},
		{"straight to itself", rules.Config{}, local(ready("10.244.1.10:8080")), pod, "10.244.1.10:8080", rules.TCP, false, []string{"10.244.1.10:8080"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := rules.NewDesired(tt.config, testNode)
			d.Update([]rules.Owned{owned(servicePort("", rules.TCP, web), tt.endpoints)})
			tr := tracer.Tracer{State: d.State()}
			for i, want := range tt.want {
				became, err := tr.Trace(tracer.Packet{Protocol: tt.proto,
					Src: netip.MustParseAddrPort(tt.src), Dst: netip.MustParseAddrPort(tt.dst)}, tt.fromNode)
				if err != nil {
					t.Fatal(err)
				}
				if got := fateText(became); got != want {
					t.Errorf("packet %d: %s, want %s", i, got, want)
				}
			}
		})
	}
}

func fateText(f tracer.Result) string {
	switch {
	case f.Rejected:
		return "rejected"
	case f.Dropped:
		return "dropped"
	}
	s := f.To.String()
	if f.Masqueraded {
		s += " masqueraded"
	}
	return s
}

// TestRoundRobinIsExact counts the connections of two services that take turns.
func TestRoundRobinIsExact(t *testing.T) {
	d := rules.NewDesired(testConfig, testNode)
	one := servicePort("one", rules.TCP, "10.96.0.10:80")
	two := servicePort("two", rules.TCP, "10.96.0.11:80")
	d.Update([]rules.Owned{owned(one, ready("10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1")), owned(two, ready("10.0.0.4:1", "10.0.0.5:1"))})
	tr := tracer.Tracer{State: d.State()}
	hits := map[string]int{}
	for i := range 60 {
		sp := one
		if i%3 == 0 { // 20 of 60
			sp = two
		}
		became, err := tr.Trace(tracer.Packet{Protocol: rules.TCP, Src: netip.MustParseAddrPort("10.1.1.1:1"),
			Dst: netip.AddrPortFrom(sp.ClusterIP, sp.Port)}, false)
		if err != nil {
			t.Fatal(err)
		}
		hits[became.To.Addr().String()]++
	}
	for addr, n := range hits {
		want := 10
		if strings.HasSuffix(addr, ".1") || strings.HasSuffix(addr, ".2") || strings.HasSuffix(addr, ".3") {
			want = 40 / 3
		}
		if n != want && n != want+1 {
			t.Errorf("%s: %d connections, want %d", addr, n, want)
		}
	}
	if len(hits) != 5 {
		t.Errorf("hits: %v, want all 5 endpoints", hits)
	}
}

func TestBuildLimits(t *testing.T) {
	for _, sp := range []rules.ServicePort{{}, {ClusterIP: netip.MustParseAddr("10.96.0.1")}, {Port: 80}} {
		if o := rules.Build(sp, ready("10.0.0.1:80"), testConfig, testNode); len(o.Sets)+len(o.Chains) != 0 {
			t.Errorf("%+v: got objects %+v, want none", sp, o)
		}
	}
	endpoints := make([]rules.Endpoint, rules.MaxEndpoints+1)
	for i := range endpoints {
		a := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		endpoints[i] = rules.Endpoint{Addr: netip.AddrPortFrom(a, 80), Ready: true}
	}
	o := rules.Build(servicePort("", rules.TCP, "10.96.0.1:80"), endpoints, testConfig, testNode)
	if n := len(o.Backends()); n != rules.MaxEndpoints {
		t.Errorf("%d backends, want %d", n, rules.MaxEndpoints)
	}
}

// TestNames checks that the longest names fit.
func TestNames(t *testing.T) {
	sp := servicePort(strings.Repeat("p", 15), rules.TCP, "10.96.0.10:80")
	sp.Name.Namespace, sp.Name.Name = strings.Repeat("x", 63), strings.Repeat("y", 63)
	sp.Affinity, sp.NodePort, sp.ExternalLocal = 10800, 30080, true
	sp.LoadBalancerIPs, sp.SourceRanges = []netip.Addr{netip.MustParseAddr("10.100.0.1")}, []netip.Prefix{podCIDRs[0]}
	o := rules.Build(sp, local(ready("10.244.1.2:80", "10.244.1.3:80")), testConfig, testNode)
	if len(o.Chains) != 7 {
		t.Errorf("%d chains, want one of each kind: 7", len(o.Chains))
	}
	const longest = 255 // NFT_NAME_MAXLEN with its end mark is 256
	for _, c := range o.Chains {
		if len(c.Name) > longest {
			t.Errorf("name of %d bytes, want at most %d: %s", len(c.Name), longest, c.Name)
		}
	}
	for _, m := range o.Affinity {
		if name := m.Set.Name(); len(name) > longest {
			t.Errorf("name of %d bytes, want at most %d: %s", len(name), longest, name)
		}
	}
}
