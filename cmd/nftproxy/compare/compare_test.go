// SPDX-License-Identifier: Apache-2.0

//go:build linux

package compare

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/explain"
	"github.com/nftproxy/nftproxy/internal/golden"
	"github.com/nftproxy/nftproxy/proxier"
	"github.com/nftproxy/nftproxy/proxier/cluster"
	"github.com/nftproxy/nftproxy/proxier/source/manifests"
	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/foreign"
	"github.com/nftproxy/nftproxy/rules/rulestest"
)

// recorded returns the rules of kube-proxy 1.37 for testdata/manifests, as the kernel listed them: in its mode iptables by iptables-nft
// 1.8.9, with --cluster-cidr 10.244.0.0/16,fd00:244::/32.
func recorded(t *testing.T, mode string) *foreign.Ruleset {
	t.Helper()
	file, err := os.Open(filepath.Join("../../../rules/foreign/testdata", mode+".json.gz"))
	must(t, err)
	defer file.Close()
	z, err := gzip.NewReader(file)
	must(t, err)
	var dumps []foreign.Dump
	must(t, json.NewDecoder(z).Decode(&dumps))
	r, err := foreign.New(dumps)
	must(t, err)
	return r
}

// planned returns what nftproxy would program for testdata/manifests, after some changes.
func planned(t *testing.T, change func(*proxier.Config, *manifests.Objects)) *explain.World {
	t.Helper()
	objects, errs := manifests.Source{Dir: "testdata/manifests"}.Read()
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	seen := explain.NewObserver()
	c := proxier.Config{Kernel: &rulestest.Kernel{}, Events: seen, Cluster: cluster.Config{NodeName: "here", NodePorts: cluster.NodePortAddresses{
		CIDRs: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}}},
		Rules: rules.Config{AllNodePortIPs: true, PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd00:244::/32")}}.WithDefaults()}
	if change != nil {
		change(&c, &objects)
	}
	p := proxier.New(c)
	seen.Sink = p
	seen.ReplaceNodes(objects.Nodes)
	seen.ReplaceServiceCIDRs(objects.ServiceCIDRs)
	seen.ReplaceServices(objects.Services)
	seen.ReplaceEndpointSlices(objects.EndpointSlices)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	<-p.Synced()
	cancel()
	must(t, <-done)
	w := seen.World()
	w.Snapshot = p.Snapshot()
	w.Local = slices.Clone(w.Node.IPs[:])
	return w
}

// TestUnchanged: kube-proxy's rules of both modes send connections where ours do, but for what is known: iptables mode serves NodePorts
// at 127.0.0.1, and does not refuse connections of the node itself to external addresses without endpoints.
func TestUnchanged(t *testing.T) {
	for _, mode := range []string{"nftables", "iptables"} {
		t.Run(mode, func(t *testing.T) {
			check(t, planned(t, nil), mode, false)
		})
	}
	t.Run("iptables with loopback", func(t *testing.T) { check(t, planned(t, nil), "iptables", true) })
}

// TestChanged: each kind of difference is found, by the rules of both modes.
func TestChanged(t *testing.T) {
	change := func(c *proxier.Config, o *manifests.Objects) {
		c.Rules.PodCIDRs = []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")}
		for _, svc := range o.Services {
			switch svc.Name {
			case "sticky":
				svc.Spec.SessionAffinity = corev1.ServiceAffinityNone
			case "node-local":
				svc.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyCluster
			case "inner-local":
				svc.Spec.InternalTrafficPolicy = new(corev1.ServiceInternalTrafficPolicyCluster)
			case "outer":
				svc.Spec.LoadBalancerSourceRanges = nil
			case "node":
				svc.Spec.Ports[0].NodePort = 31080
			}
		}
		o.Services = slices.DeleteFunc(o.Services, func(svc *corev1.Service) bool { return svc.Name == "host" })
		o.EndpointSlices = slices.DeleteFunc(o.EndpointSlices, func(es *discoveryv1.EndpointSlice) bool {
			return es.Name == "single-ipv4"
		})
		for _, es := range o.EndpointSlices {
			if es.Name == "web-ipv4" {
				es.Endpoints = es.Endpoints[1:]
			}
		}
	}
	for _, mode := range []string{"nftables", "iptables"} {
		t.Run(mode, func(t *testing.T) {
			check(t, planned(t, change), mode, true)
		})
	}
}

func check(t *testing.T, w *explain.World, mode string, loopback bool) {
	t.Helper()
	theirs := recorded(t, mode)
	if got := theirs.Mode(); got != mode {
		t.Errorf("the mode is %q", got)
	}
	result, err := Of(w, theirs, theirs.Mode(), loopback)
	must(t, err)
	var b strings.Builder
	must(t, result.WriteText(&b))
	golden.Check(t, filepath.Join("testdata", strings.ReplaceAll(t.Name(), "/", "_")+".txt"), b.String())
	if len(result.Differences) == 0 && !strings.HasPrefix(b.String(), "Nothing would change") {
		t.Errorf("it does not say that nothing would change:\n%s", &b)
	}
}

// TestMany: what is long is cut, and of many endpoints those are named that only one has.
func TestMany(t *testing.T) {
	r := &Result{Differing: 1, Mode: "nftables"}
	var all []string
	for i := range 20 {
		all = append(all, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), 80).String())
	}
	d := Difference{Kind: "ClusterIP", Frontend: "10.96.0.1:80/tcp", From: []string{"a pod"}, KubeProxy: Answer{Outcome: explain.Answer, To: all}}
	for _, ours := range []Answer{{Outcome: explain.Answer, To: all[:19]}, {Outcome: explain.Answer, To: all[:1]}, {Outcome: explain.Timeout}} {
		d.Nftproxy = ours
		r.Differences = append(r.Differences, d)
	}
	for range 600 {
		r.Differences = append(r.Differences, d)
	}
	var b strings.Builder
	must(t, r.WriteText(&b))
	for _, want := range []string{"kube-proxy  to 20 endpoints, of which only here: 10.0.0.19:80\n    nftproxy    to 19 endpoints\n", "10.0.0.6:80 and 13 more\n    nftproxy    to 1 endpoint\n",
		"and 14 more\n    nftproxy    dropped\n", "and 103 more: -o json has all\n"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("it does not say %q:\n%.3000s", want, &b)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
