// SPDX-License-Identifier: Apache-2.0

//go:build linux

package packets

import (
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/traffic"
)

// nodeObject makes the Node object of the world's node.
func nodeObject(change func(*corev1.Node)) *corev1.Node {
	n := &corev1.Node{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Node"},
		ObjectMeta: metav1.ObjectMeta{Name: "node", Labels: map[string]string{}},
		Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{
			{Type: corev1.NodeHostName, Address: "node"},
			{Type: corev1.NodeExternalIP, Address: "203.0.113.7"},
			{Type: corev1.NodeInternalIP, Address: "172.18.0.2"},
			{Type: corev1.NodeInternalIP, Address: "fd00:172:18::2"},
		}},
	}
	if change != nil {
		change(n)
	}
	return n
}

func zone(name string) func(*corev1.Node) {
	return func(n *corev1.Node) { n.Labels[corev1.LabelTopologyZone] = name }
}

// hinted gives an endpoint hints: the names of zones or nodes that it is for.
func hinted(h netns.Host, zones, nodes []string) []endpoint {
	list := ready(h)
	list[0].Hints = &discoveryv1.EndpointHints{}
	for _, z := range zones {
		list[0].Hints.ForZones = append(list[0].Hints.ForZones, discoveryv1.ForZone{Name: z})
	}
	for _, n := range nodes {
		list[0].Hints.ForNodes = append(list[0].Hints.ForNodes, discoveryv1.ForNode{Name: n})
	}
	return list
}

// Endpoints are preferred by their hints, as the Node object's labels say; the
// labels are followed.
func TestTopology(t *testing.T) {
	t.Parallel()
	w := newWorld(t, config{})
	w.put(t, nodeObject(zone("a")))
	a, b, c := w.Local[0], w.RemotePods[0], w.RemotePods[1]
	zones := func(names ...string) []string { return names }
	rows := []struct {
		name      string
		endpoints [][]endpoint
		inA, inB  []netns.Host // who answers when the node is in the zone
	}{
		{"forZones", [][]endpoint{hinted(a, zones("a"), nil), hinted(b, zones("b"), nil), hinted(c, zones("a", "b"), nil)},
			[]netns.Host{a, c}, []netns.Host{b, c}},
		{"forNodes before forZones", [][]endpoint{hinted(a, zones("b"), []string{"node"}), hinted(b, zones("a"), []string{"other"})},
			[]netns.Host{a}, []netns.Host{a}},
		{"forNodes for another node", [][]endpoint{hinted(a, zones("b"), []string{"other"}), hinted(b, zones("a"), []string{"other"})},
			[]netns.Host{b}, []netns.Host{a}},
		{"an endpoint without hints", [][]endpoint{hinted(a, zones("a"), nil), hinted(b, zones("b"), nil), ready(c)},
			[]netns.Host{a, b, c}, []netns.Host{a, b, c}},
		{"no endpoint for the zone", [][]endpoint{hinted(a, zones("c"), nil), hinted(b, zones("b"), nil)},
			[]netns.Host{a, b}, []netns.Host{b}},
	}
	services := make([]*svc, len(rows))
	for i, r := range rows {
		services[i] = w.service(nameOf(r.name)).to(r.endpoints...)
	}
	w.apply(t, services...)
	for i, r := range rows {
		t.Run(r.name, func(t *testing.T) { w.wantEverywhere(t, services[i], spread(r.inA...)) })
	}
	w.put(t, nodeObject(zone("b")))
	w.programmed(t)
	for i, r := range rows {
		t.Run(r.name+", in another zone", func(t *testing.T) { w.wantEverywhere(t, services[i], spread(r.inB...)) })
	}
}

// Whom the backends see, where pods are told from others in another way than by
// --cluster-cidr.
func TestDetectLocal(t *testing.T) {
	t.Parallel()
	for _, mode := range []struct {
		name string
		args []string
	}{
		{"NodeCIDR", []string{"--detect-local-mode", "NodeCIDR"}},
		{"BridgeInterface", []string{"--detect-local-mode", "BridgeInterface", "--pod-bridge-interface", "pod-client"}},
		{"InterfaceNamePrefix", []string{"--detect-local-mode", "InterfaceNamePrefix", "--pod-interface-name-prefix", "pod-"}},
	} {
		t.Run(mode.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, config{args: append(mode.args, "--cluster-cidr", "")})
			w.put(t, nodeObject(func(n *corev1.Node) { n.Spec.PodCIDRs = []string{netns.PodCIDR4, netns.PodCIDR6} }))
			here, there := w.Local[0], w.RemotePods[0]
			s := w.full("web", externalLocal).to(ready(here, there))
			w.apply(t, s)
			said := w.explain(t, s)
			each(t, func(t *testing.T, p traffic.Protocol, f netns.Family) {
				want := func(from netns.Host, to netip.AddrPort, expected expected) {
					w.want(t, from, p, to, expected)
					w.wantSaid(t, said, from, p, to, expected)
				}
				for _, from := range w.clients() {
					want(from, s.at(f, servicePort), spread(here, there))
				}
				lb := w.address(s, loadBalancer, p, f)
				want(w.Client, lb, spread(here, there).seen(asItself))
				want(w.Node, lb, spread(here, there).seen(asNode))
				want(w.Outside, lb, spread(here).seen(asItself))
			})
			if mode.name != "NodeCIDR" {
				return
			}
			// The client is a pod no more.
			w.put(t, nodeObject(func(n *corev1.Node) { n.Spec.PodCIDRs = []string{"10.244.7.0/24", "fd00:10:244:7::/64"} }))
			w.programmed(t)
			each(t, func(t *testing.T, p traffic.Protocol, f netns.Family) {
				w.want(t, w.Client, p, s.at(f, servicePort), spread(here, there).seen(asNode))
				w.want(t, w.Client, p, w.address(s, loadBalancer, p, f), spread(here).seen(asItself))
			})
		})
	}
}

// An address of a ServiceCIDR that no Service has is dropped; the node would else
// send the packet on.
func TestUnallocatedClusterIP(t *testing.T) {
	t.Parallel()
	w := newWorld(t, config{})
	elsewhere := w.Outside
	elsewhere.V4, elsewhere.V6 = netns.ServiceAddr(netns.IPv4, 4000), netns.ServiceAddr(netns.IPv6, 4000)
	handle, err := w.Outside.Netlink()
	if err != nil {
		t.Fatal(err)
	}
	defer handle.Close()
	lo, err := handle.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range netns.Families() {
		addr, err := netlink.ParseAddr(netip.PrefixFrom(elsewhere.Addr(f), elsewhere.Addr(f).BitLen()).String())
		if err != nil {
			t.Fatal(err)
		}
		addr.Flags = unix.IFA_F_NODAD
		if err := handle.AddrAdd(lo, addr); err != nil {
			t.Fatal(err)
		}
	}
	serve(t, []uint16{servicePort}, elsewhere)
	used := w.service("web").to(ready(w.RemotePods[0]))
	w.apply(t, used)
	check := func(t *testing.T, want expected) {
		t.Helper()
		for _, p := range traffic.Protocols() {
			for _, f := range netns.Families() {
				w.want(t, w.Node, p, netip.AddrPortFrom(elsewhere.Addr(f), servicePort), want)
			}
		}
		w.wantEverywhere(t, used, spread(w.RemotePods[0]))
	}
	answered := expected{outcome: traffic.Answered, sees: anySource}.and(servicePort, elsewhere)
	cidr := &networkingv1.ServiceCIDR{
		TypeMeta:   metav1.TypeMeta{APIVersion: "networking.k8s.io/v1", Kind: "ServiceCIDR"},
		ObjectMeta: metav1.ObjectMeta{Name: "kubernetes"},
		Spec:       networkingv1.ServiceCIDRSpec{CIDRs: []string{netns.ServiceCIDR4, netns.ServiceCIDR6}},
	}
	check(t, answered)
	w.put(t, cidr)
	w.programmed(t)
	check(t, dropped())
	for _, p := range traffic.Protocols() {
		for _, f := range netns.Families() {
			w.want(t, w.Client, p, netip.AddrPortFrom(elsewhere.Addr(f), servicePort), dropped())
			w.want(t, w.Client, p, used.at(f, servicePort+1), refused())
		}
	}
	if err := w.manifests.Delete(cidr); err != nil {
		t.Fatal(err)
	}
	w.programmed(t)
	check(t, answered)
}
