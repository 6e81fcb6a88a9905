// SPDX-License-Identifier: Apache-2.0

//go:build linux

package packets

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/traffic"
	"github.com/nftproxy/nftproxy/internal/kubeproxytests"
)

// kubeProxyCase is what a test of kube-proxy gives to a proxier, and what becomes of connections.
type kubeProxyCase struct {
	Source, Test string
	Auto         bool
	Options      struct {
		ClusterCIDR   []string
		NodeName      string
		MasqueradeAll bool
	}
	Objects []json.RawMessage
	Flows   []kubeproxytests.Flow
}

// fits says whether a world can be like the case: those of other modes, and of other options than a world's, go through the
// rules alone, as all do in proxier/cluster. What a test's own tracer expects besides its flows is more of the same.
func (c *kubeProxyCase) fits() bool {
	return c.Source == "nftables" && !c.Auto && !c.Options.MasqueradeAll && len(c.Options.ClusterCIDR) > 0
}

// TestConnectionsOfKubeProxy makes the connections that kube-proxy's own tests of its nftables mode name, in the kernel. The
// world's hosts and addresses take the place of those in the tests.
func TestConnectionsOfKubeProxy(t *testing.T) {
	t.Parallel()
	var cases []kubeProxyCase
	ports := map[uint16]bool{}
	for _, c := range kubeproxytests.Read[kubeProxyCase](t, "cases") {
		if !c.fits() {
			continue
		}
		cases = append(cases, c)
		for _, f := range c.Flows {
			for _, o := range f.Outputs {
				ports[o.To.Port()] = true
			}
		}
	}
	delete(ports, backendPort)
	var list []uint16
	for p := range ports {
		list = append(list, p)
	}
	w := newWorld(t, config{cluster: netns.Config{LocalPods: 6, RemotePods: 8}, ports: list})
	made := 0
	var before []runtime.Object
	for i := range cases {
		r := &kubeProxyReplay{w: w, c: &cases[i], hosts: map[netip.Addr]netns.Host{}, addresses: map[netip.Addr]netip.Addr{}}
		objects := r.objects(t)
		if err := w.manifests.Delete(before...); err != nil {
			t.Fatal(err)
		}
		before = objects
		w.put(t, objects...)
		w.programmed(t)
		for j := range r.c.Flows {
			if r.connect(t, &r.c.Flows[j]) {
				made++
			}
		}
	}
	t.Logf("%d cases, %d flows", len(cases), made)
	const least = 150 // that a world can have is not to become few unseen
	if made < least {
		t.Errorf("%d of kube-proxy's flows were made, want %d at least", made, least)
	}
}

// kubeProxyReplay is a case in a world.
type kubeProxyReplay struct {
	w         *world
	c         *kubeProxyCase
	hosts     map[netip.Addr]netns.Host // by the case's addresses
	addresses map[netip.Addr]netip.Addr // of Services, by the case's
	sticky    bool
	local     int // pods that are taken
	remote    int
}

// objects returns the case's, with the world's addresses.
func (r *kubeProxyReplay) objects(t *testing.T) []runtime.Object {
	t.Helper()
	for family, list := range map[netns.Family][3]string{netns.IPv4: {"10.0.0.2", "192.168.0.2", "203.0.113.2"}, netns.IPv6: {"fd00:10::2", "2001:db8::1", "2600:5200::1"}} {
		for i, h := range r.w.clients() {
			a := netip.MustParseAddr(list[i])
			if r.hosts[a] = h; i == 1 {
				r.addresses[a] = h.Addr(family)
			}
		}
	}
	var out []runtime.Object
	for _, data := range r.c.Objects {
		object := kubeproxytests.Object(t, r.c.Test, data, map[string]runtime.Object{"Service": new(corev1.Service), "EndpointSlice": new(discoveryv1.EndpointSlice)})
		switch object := object.(type) {
		case *corev1.Service:
			r.service(object)
		case *discoveryv1.EndpointSlice:
			r.slice(object)
		}
		out = append(out, object)
	}
	return out
}

// service gives a Service the world's addresses.
func (r *kubeProxyReplay) service(s *corev1.Service) {
	r.sticky = r.sticky || s.Spec.SessionAffinity == corev1.ServiceAffinityClientIP
	r.address(&s.Spec.ClusterIP)
	s.Spec.ClusterIPs = []string{s.Spec.ClusterIP}
	for i := range s.Spec.ExternalIPs {
		r.address(&s.Spec.ExternalIPs[i])
	}
	for i := range s.Status.LoadBalancer.Ingress {
		r.address(&s.Status.LoadBalancer.Ingress[i].IP)
	}
	for i, text := range s.Spec.LoadBalancerSourceRanges {
		if p, err := netip.ParsePrefix(strings.TrimSpace(text)); err == nil {
			for a, h := range r.hosts {
				if p.Contains(a) {
					mine := h.Addr(familyOf(a))
					s.Spec.LoadBalancerSourceRanges[i] = netip.PrefixFrom(mine, mine.BitLen()).String()
				}
			}
		}
	}
}

// address replaces an address of a Service.
func (r *kubeProxyReplay) address(text *string) {
	a, err := netip.ParseAddr(*text)
	if err != nil {
		return
	}
	if !r.addresses[a].IsValid() {
		r.addresses[a] = netns.ServiceAddr(familyOf(a), 1000+len(r.addresses))
	}
	*text = r.addresses[a].String()
}

// slice puts an EndpointSlice's endpoints into the world's pods.
func (r *kubeProxyReplay) slice(s *discoveryv1.EndpointSlice) {
	for i := range s.Endpoints {
		e := &s.Endpoints[i]
		a := netip.MustParseAddr(e.Addresses[0])
		h, known := r.hosts[a]
		switch here := e.NodeName != nil && *e.NodeName == r.c.Options.NodeName; {
		case known:
		case here:
			h = r.w.Local[r.local]
			r.local++
		default:
			h = r.w.RemotePods[r.remote]
			r.remote++
		}
		r.hosts[a] = h
		e.Addresses[0] = h.Addr(familyOf(a)).String()
		if e.NodeName != nil {
			e.NodeName = new(nodeName(h))
		}
	}
}

// connect makes a flow's connections, if the world has such, and says so.
func (r *kubeProxyReplay) connect(t *testing.T, f *kubeproxytests.Flow) bool {
	t.Helper()
	from, ok := r.hosts[f.Src]
	to := r.addresses[f.Dst]
	protocols := map[string]traffic.Protocol{"tcp": traffic.TCP, "udp": traffic.UDP}
	p, tcpOrUDP := protocols[f.Proto]
	if !ok || !to.IsValid() || !tcpOrUDP || from.Name() == "remote" {
		return false
	}
	var want expected
	switch f.Verdict {
	case "DNAT":
		if r.sticky && len(f.Outputs) > 1 {
			return false // one of them answers each time, and which is not said
		}
		want = spread()
		masqueraded := 0
		for _, o := range f.Outputs {
			want = want.and(o.To.Port(), r.hosts[o.To.Addr()])
			if o.Masq {
				masqueraded++
			}
		}
		switch {
		case from.NS == r.w.Node.NS || masqueraded == len(f.Outputs):
			want = want.seen(asNode)
		case masqueraded == 0:
			want = want.seen(asItself)
		default:
			want = want.seen(anySource)
		}
	case "REJECT":
		want = refused()
	case "DROP":
		want = dropped()
	default:
		return false // who answers there is nobody's matter
	}
	if err := r.w.check(t.Context(), from, p, netip.AddrPortFrom(to, f.Port), want); err != nil {
		t.Errorf("%s: %s", fmt.Sprintf("%s, %s, from %s to %s", r.c.Test, f.Name, f.Src, netip.AddrPortFrom(f.Dst, f.Port)), err)
	}
	return true
}
