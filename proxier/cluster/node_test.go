// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/nftproxy/nftproxy/internal/kubeproxytests"
	"github.com/nftproxy/nftproxy/rules"
)

// node returns a Node n1 with addresses such as 'InternalIP=10.0.0.1'.
func node(addresses string) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}
	for _, a := range strings.Fields(addresses) {
		kind, addr, _ := strings.Cut(a, "=")
		n.Status.Addresses = append(n.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeAddressType(kind), Address: addr})
	}
	return n
}

func TestConvertNodeAddresses(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, addresses, want string }{
		{"none", "", "[invalid IP invalid IP]"},
		{"internal before external", "Hostname=n1 ExternalIP=192.0.2.1 InternalIP=10.0.0.1", "[10.0.0.1 invalid IP]"},
		{"the first of a type", "InternalIP=10.0.0.1 InternalIP=10.0.0.2", "[10.0.0.1 invalid IP]"},
		{"external where that is all", "ExternalIP=192.0.2.1 ExternalIP=192.0.2.2", "[192.0.2.1 invalid IP]"},
		{"each family by itself", "InternalIP=fd00::1 ExternalIP=192.0.2.1 ExternalIP=2001:db8::1", "[192.0.2.1 fd00::1]"},
		{"names and broken ones", "InternalDNS=n1 InternalIP=n1 InternalIP= InternalIP=fe80::1%eth0 InternalIP=10.0.0.3", "[10.0.0.3 invalid IP]"},
		{"mapped", "InternalIP=::ffff:10.0.0.1", "[10.0.0.1 invalid IP]"},
	} {
		if got := fmt.Sprint(convertNode(node(test.addresses)).IPs); got != test.want {
			t.Errorf("%s: got %s, want %s", test.name, got, test.want)
		}
	}
}

func TestConvertNode(t *testing.T) {
	t.Parallel()
	now := metav1.NewTime(time.Unix(1, 0))
	for _, test := range []struct {
		name   string
		change func(*corev1.Node)
		want   string
	}{
		{"nothing", func(*corev1.Node) {}, `"" [] true`},
		{"zone", func(n *corev1.Node) {
			n.Labels = map[string]string{"topology.kubernetes.io/zone": "a", "failure-domain.beta.kubernetes.io/zone": "old"}
		}, `"a" [] true`},
		{"pod CIDRs", func(n *corev1.Node) {
			n.Spec.PodCIDR, n.Spec.PodCIDRs = "10.244.1.0/24", []string{"10.244.1.0/24", "fd00:1::7/64", "x"}
		}, `"" [10.244.1.0/24 fd00:1::/64] true`},
		{"pod CIDR", func(n *corev1.Node) { n.Spec.PodCIDR = "10.244.1.0/24" }, `"" [10.244.1.0/24] true`},
		{"being deleted", func(n *corev1.Node) { n.DeletionTimestamp = &now }, `"" [] false`},
		{"about to be deleted", func(n *corev1.Node) {
			n.Spec.Taints = []corev1.Taint{{Key: "x"}, {Key: "ToBeDeletedByClusterAutoscaler", Effect: corev1.TaintEffectNoSchedule}}
		}, `"" [] false`},
		{"another taint", func(n *corev1.Node) {
			n.Spec.Unschedulable = true
			n.Spec.Taints = []corev1.Taint{{Key: corev1.TaintNodeUnschedulable}}
		}, `"" [] true`},
	} {
		n := node("")
		test.change(n)
		got := convertNode(n)
		if got := fmt.Sprintf("%q %v %v", got.Zone, got.PodCIDRs, got.Eligible); got != test.want {
			t.Errorf("%s: got %s, want %s", test.name, got, test.want)
		}
	}
}

// listener notes what a Cluster tells at once. If it has one, it must not be told under the Cluster's lock: it may log, open sockets,
// and ask the Cluster.
type listener struct {
	of       *Cluster
	changed  bool
	eligible []bool
}

// listening returns a Cluster and its listener. Nobody else may use the Cluster while it is told of anything.
func listening(c Config) (*Cluster, *listener) {
	var l listener
	l.of = New(c, &l)
	return l.of, &l
}

func (e *listener) Changed() {
	e.unlocked()
	e.changed = true
}

func (e *listener) SetNodeEligible(yes bool) {
	e.unlocked()
	e.eligible = append(e.eligible, yes)
}

func (e *listener) unlocked() {
	if e.of == nil {
		return
	}
	if !e.of.mu.TryLock() {
		panic("a Cluster's listener is told under its lock")
	}
	e.of.mu.Unlock()
}

// woken says whether a change was told since the last call.
func (e *listener) woken() bool {
	was := e.changed
	e.changed = false
	return was
}

func TestSinkNodes(t *testing.T) {
	t.Parallel()
	c, told := listening(Config{NodeName: "n1", DetectNodeCIDR: true})
	s := NewSink(c)
	now := func() string {
		n := take(c).Node
		return fmt.Sprintf("%q %v %v", n.Zone, n.IPs[0], n.PodCIDRs)
	}
	other := node("InternalIP=10.0.0.2")
	other.Name = "n2"
	s.ReplaceNodes([]*corev1.Node{other})
	if got, want := now(), `"" invalid IP []`; got != want || !c.listed.nodes {
		t.Errorf("without this node's object: got %s, want %s; list is in: %v, want true", got, want, c.listed.nodes)
	}
	mine := node("InternalIP=10.0.0.1")
	mine.Labels = map[string]string{corev1.LabelTopologyZone: "a"}
	mine.Spec.PodCIDRs = []string{"10.244.1.0/24"}
	told.woken()
	s.ReplaceNodes([]*corev1.Node{other, mine})
	if got, want := now(), `"a" 10.0.0.1 [10.244.1.0/24]`; got != want || !told.woken() {
		t.Errorf("with this node's object: got %s, want %s, and to be woken", got, want)
	}
	changed := mine.DeepCopy()
	changed.Labels[corev1.LabelTopologyZone] = "b"
	changed.Spec.Taints = []corev1.Taint{{Key: taintToBeDeleted}}
	s.UpdateNode(other)
	s.UpdateNode(changed)
	if got, want := now(), `"b" 10.0.0.1 [10.244.1.0/24]`; got != want || !told.woken() {
		t.Errorf("after a change: got %s, want %s, and to be woken", got, want)
	}
	s.DeleteNode("n1")
	if got, want := now(), `"b" 10.0.0.1 [10.244.1.0/24]`; got != want {
		t.Errorf("when the object is gone: got %s, want %s", got, want)
	}
	if got := fmt.Sprint(told.eligible); got != "[true false false]" {
		t.Errorf("eligibility was told as %s, want true, false for the taint and false when it is gone", got)
	}
}

func TestSinkServiceCIDRs(t *testing.T) {
	t.Parallel()
	c, told := listening(Config{})
	s := NewSink(c)
	expect := func(want string) {
		t.Helper()
		if got := fmt.Sprint(take(c).Node.ServiceCIDRs); got != want || !told.woken() {
			t.Errorf("got %s, want %s, and to be woken", got, want)
		}
	}
	cidr := func(name string, cidrs ...string) *networkingv1.ServiceCIDR {
		return &networkingv1.ServiceCIDR{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: networkingv1.ServiceCIDRSpec{CIDRs: cidrs}}
	}
	s.ReplaceServiceCIDRs(nil)
	expect("[]")
	if !c.listed.serviceCIDRs {
		t.Error("an empty list does not count as a list")
	}
	s.UpdateServiceCIDR(cidr("kubernetes", "10.96.0.1/16", "fd00::/108"))
	expect("[10.96.0.0/16 fd00::/108]")
	s.UpdateServiceCIDR(cidr("extra", "10.95.0.0/16", "x"))
	expect("[10.95.0.0/16 10.96.0.0/16 fd00::/108]")
	s.UpdateServiceCIDR(cidr("extra", "10.94.0.0/16"))
	expect("[10.94.0.0/16 10.96.0.0/16 fd00::/108]")
	s.DeleteServiceCIDR("kubernetes")
	expect("[10.94.0.0/16]")
	s.ReplaceServiceCIDRs([]*networkingv1.ServiceCIDR{cidr("kubernetes", "10.96.0.0/16")})
	expect("[10.96.0.0/16]")
}

// TestNodePortFamilies: CIDRs of one family leave the other open, as in kube-proxy.
func TestNodePortFamilies(t *testing.T) {
	t.Parallel()
	var own []netip.Addr
	for _, s := range []string{"10.0.0.1", "172.16.0.1", "127.0.0.1", "fd00::1", "2001:db8::1", "::1"} {
		own = append(own, netip.MustParseAddr(s))
	}
	for _, row := range []struct{ cidrs, want string }{
		{"10.0.0.0/8", "[10.0.0.1 2001:db8::1 fd00::1]"},
		{"fd00::/8", "[10.0.0.1 172.16.0.1 fd00::1]"},
		{"10.0.0.0/8 fd00::/8", "[10.0.0.1 fd00::1]"},
		{"0.0.0.0/0 fd00::/8", "[10.0.0.1 172.16.0.1 fd00::1]"},
		{"0.0.0.0/0", "[10.0.0.1 172.16.0.1 2001:db8::1 fd00::1]"},
		{"0.0.0.0/0 ::/0", "[10.0.0.1 172.16.0.1 2001:db8::1 fd00::1]"},
	} {
		var n NodePortAddresses
		for s := range strings.FieldsSeq(row.cidrs) {
			n.CIDRs = append(n.CIDRs, netip.MustParsePrefix(s))
		}
		if got := fmt.Sprint(nodePortIPs(n, [2]netip.Addr{}, own)); got != row.want {
			t.Errorf("%s: %s, want %s", row.cidrs, got, row.want)
		}
	}
}

// TestNodePortKeywords: keywords count as CIDRs of both families, before a family without any serves on all of its addresses.
func TestNodePortKeywords(t *testing.T) {
	t.Parallel()
	var own []netip.Addr
	for _, s := range []string{"10.0.0.1", "172.16.0.1", "127.0.0.1", "fd00::1", "2001:db8::1", "::1"} {
		own = append(own, netip.MustParseAddr(s))
	}
	const localhost = "127.0.0.0/8 ::1/128"
	both := [2]netip.Addr{netip.MustParseAddr("172.16.0.1"), netip.MustParseAddr("2001:db8::1")}
	for _, row := range []struct {
		cidrs          string
		primary        bool
		addresses      [2]netip.Addr // primary ones
		want, health   string
		local4, local6 bool
	}{
		{"", false, both, "[172.16.0.1 2001:db8::1]", "[172.16.0.1 2001:db8::1]", false, false},
		{localhost, false, both, "[]", "[127.0.0.1 ::1]", true, true},
		{localhost + " 10.0.0.0/8", false, both, "[10.0.0.1]", "[127.0.0.1 10.0.0.1 ::1]", true, true},
		{localhost + " fd00::/8", false, both, "[fd00::1]", "[127.0.0.1 ::1 fd00::1]", true, true},
		{"10.0.0.0/8", true, both, "[10.0.0.1 172.16.0.1 2001:db8::1]", "[10.0.0.1 172.16.0.1 2001:db8::1]", false, false},
		{"10.0.0.0/8", true, [2]netip.Addr{both[0]}, "[10.0.0.1 172.16.0.1]", "[10.0.0.1 172.16.0.1]", false, false},
		{"127.0.0.0/8", false, both, "[2001:db8::1 fd00::1]", "[127.0.0.1 ::]", true, false},
		{"127.0.0.1/32", false, both, "[2001:db8::1 fd00::1]", "[127.0.0.1 ::]", true, false},
		{"::1/128", false, both, "[10.0.0.1 172.16.0.1]", "[0.0.0.0 ::1]", false, true},
		{"127.0.0.0/8", true, both, "[172.16.0.1 2001:db8::1]", "[127.0.0.1 172.16.0.1 2001:db8::1]", true, false},
		{"0.0.0.0/0 ::/0", false, both, "[10.0.0.1 172.16.0.1 2001:db8::1 fd00::1]", "[0.0.0.0 ::]", false, false},
		{"0.0.0.0/0 ::/0 " + localhost, false, both, "[10.0.0.1 172.16.0.1 2001:db8::1 fd00::1]", "[0.0.0.0 ::]", true, true},
		{"10.0.0.0/8", false, both, "[10.0.0.1 2001:db8::1 fd00::1]", "[10.0.0.1 ::]", false, false},
	} {
		n := NodePortAddresses{Primary: row.primary}
		for s := range strings.FieldsSeq(row.cidrs) {
			n.CIDRs = append(n.CIDRs, netip.MustParsePrefix(s))
		}
		ips := nodePortIPs(n, row.addresses, own)
		got := fmt.Sprintf("%v %v %v %v", ips, n.HealthAddresses(ips, true), n.Localhost(rules.IPv4), n.Localhost(rules.IPv6))
		if want := fmt.Sprintf("%v %v %v %v", row.want, row.health, row.local4, row.local6); got != want {
			t.Errorf("%s, primary %v: %s, want %s", row.cidrs, row.primary, got, want)
		}
	}
	// A family that the node has no address of is not listened on; it may be switched off.
	n := NodePortAddresses{CIDRs: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}}
	if got := fmt.Sprint(n.HealthAddresses(own[:1], true)); got != "[0.0.0.0]" {
		t.Errorf("without an address of IPv6 health checks are answered at %s, want [0.0.0.0]", got)
	}
}

// TestNodePortsOfKubeProxy replays what kube-proxy's own tests expect of nodePortAddresses.
func TestNodePortsOfKubeProxy(t *testing.T) {
	t.Parallel()
	const primary = "an empty list means primary, which is kube-proxy's default in mode nftables"
	onPurpose := kubeproxytests.Purposes{
		"TestGetNodeIPs/empty_list,_IPv4_addrs IPv4": primary, "TestGetNodeIPs/empty_list,_IPv4_addrs IPv6": primary,
		"TestGetNodeIPs/empty_list,_IPv6_addrs IPv4": primary, "TestGetNodeIPs/empty_list,_IPv6_addrs IPv6": primary,
	}
	differences := map[string]string{}
	for _, c := range kubeproxytests.Read[struct {
		Addrs        map[string][]string
		CIDRs, IPs   []string
		Family, Test string
		All          bool
	}](t, "nodeport") {
		var ours, theirs, own []netip.Addr
		var n NodePortAddresses
		for _, s := range c.CIDRs {
			n.CIDRs = append(n.CIDRs, netip.MustParsePrefix(s).Masked())
		}
		for _, list := range c.Addrs {
			for _, s := range list {
				own = append(own, netip.MustParsePrefix(s).Addr())
			}
		}
		f := map[string]rules.Family{"IPv4": rules.IPv4, "IPv6": rules.IPv6}[c.Family]
		for _, a := range nodePortIPs(n, [2]netip.Addr{}, own) {
			if rules.FamilyOf(a) == f {
				ours = append(ours, a)
			}
		}
		loopback := false
		for _, s := range c.IPs {
			// In mode nftables kube-proxy, too, leaves loopback addresses out of its set of addresses.
			if a := netip.MustParseAddr(s); a.IsLoopback() {
				loopback = true
			} else {
				theirs = append(theirs, a)
			}
		}
		slices.SortFunc(theirs, netip.Addr.Compare)
		same := n.all(f) == c.All && slices.Equal(ours, theirs) && (c.All || n.Localhost(f) == loopback)
		name := c.Test + " " + c.Family
		differences[name] = ""
		if !same {
			differences[name] = fmt.Sprintf("all %v, addresses %v, loopback %v; kube-proxy: %v, %v, %v", n.all(f), ours, n.Localhost(f), c.All, theirs, loopback)
		}
	}
	onPurpose.Compare(t, differences)
}
