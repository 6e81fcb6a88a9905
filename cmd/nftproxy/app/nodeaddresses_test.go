// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/nftproxy/nftproxy/internal/kubeproxytests"
	"github.com/nftproxy/nftproxy/proxier"
	"github.com/nftproxy/nftproxy/rules"
)

// TestKeywordsOfKubeProxy replays what kube-proxy's own tests expect of nodePortAddresses' keywords.
func TestKeywordsOfKubeProxy(t *testing.T) {
	for _, c := range kubeproxytests.Read[struct {
		Test             string
		Addresses, CIDRs []string
		NodeIPs          map[string]netip.Addr
	}](t, "keyword") {
		ports := flagOptions(t, "--nodeport-addresses="+strings.Join(c.Addresses, ",")).kubeProxy.NodePortAddresses
		a := nodePorts(ports)
		var got []string
		for _, p := range a.CIDRs {
			got = append(got, p.String())
		}
		for _, ip := range c.NodeIPs {
			if a.Primary && !ip.IsLoopback() {
				got = append(got, netip.PrefixFrom(ip, ip.BitLen()).String())
			}
		}
		slices.Sort(got)
		slices.Sort(c.CIDRs)
		if !slices.Equal(got, c.CIDRs) {
			t.Errorf("%s: %v become %v, want %v", c.Test, c.Addresses, got, c.CIDRs)
		}
	}
}

// TestNodeIPsOfKubeProxy replays what kube-proxy's own tests expect of the node's addresses.
func TestNodeIPsOfKubeProxy(t *testing.T) {
	const loopback = "a loopback address as --bind-address is none by which others reach the node: the Node object's counts"
	onPurpose := kubeproxytests.Purposes{
		"Test_detectNodeIPs/Dual_stack,_override_primary_family,_IPv4": loopback,
		"Test_detectNodeIPs/Dual_stack,_override_primary_family,_IPv6": loopback,
	}
	differences := map[string]string{}
	for _, c := range kubeproxytests.Read[struct {
		Test, Bind string
		Raw        []string
		IPv4, IPv6 netip.Addr
	}](t, "nodeip") {
		want := [2]netip.Addr{c.IPv4, c.IPv6}
		for i := range want {
			if want[i].IsLoopback() {
				want[i] = netip.Addr{} // what kube-proxy says where there is none
			}
		}
		differences[c.Test] = ""
		if got := nodeOf(t, c.Raw, nil, "--bind-address="+c.Bind).IPs; got != want {
			differences[c.Test] = fmt.Sprintf("%v, kube-proxy: %v", got, want)
		}
	}
	onPurpose.Compare(t, differences)
}

// TestDetectLocalOfKubeProxy replays what kube-proxy's own tests take for packets of pods.
func TestDetectLocalOfKubeProxy(t *testing.T) {
	const name = "no interface's name has more than 15 characters, so none would ever match: it is refused"
	onPurpose := kubeproxytests.Purposes{
		"Test_getLocalDetectors/LocalModeBridgeInterface,_strange_bridge_name":        name,
		"Test_getLocalDetectors/LocalModeInterfaceNamePrefix,_strange_interface_name": name,
	}
	differences := map[string]string{}
	for _, c := range kubeproxytests.Read[struct {
		Test, Mode, IPv4, IPv6 string
		PodCIDRs               []string
		Detect                 struct {
			BridgeInterface, InterfaceNamePrefix string
			ClusterCIDRs                         []string
		}
	}](t, "detector") {
		args := []string{"--detect-local-mode=" + c.Mode, "--cluster-cidr=" + strings.Join(c.Detect.ClusterCIDRs, ","),
			"--pod-bridge-interface=" + c.Detect.BridgeInterface, "--pod-interface-name-prefix=" + c.Detect.InterfaceNamePrefix}
		var got [2]string
		if o, err := tryFlags(t, append(args, "--hostname-override=n")...); err == nil { // else nothing is proxied: there are no pods
			config, err := o.proxierConfig()
			must(t, err)
			for _, p := range append(nodeOf(t, []string{"10.0.0.1"}, c.PodCIDRs, args...).PodCIDRs, config.Rules.PodCIDRs...) {
				f := rules.FamilyOf(p.Addr())
				got[f] += fmt.Sprintf("%s saddr != %s", f, p)
			}
			for f := range got {
				if name := config.Rules.PodInterface; name != "" {
					got[f] += "iifname != " + name
				}
			}
		}
		want := [2]string{c.IPv4, c.IPv6}
		differences[c.Test] = ""
		if got != want {
			differences[c.Test] = fmt.Sprintf("%q, kube-proxy: %q", got, want)
		}
	}
	onPurpose.Compare(t, differences)
}

// nodeOf returns what a proxier with some flags knows of its node, whose object has addresses and podCIDRs.
func nodeOf(t *testing.T, addresses, podCIDRs []string, flags ...string) rules.Node {
	t.Helper()
	config, err := flagOptions(t, append(flags, "--hostname-override=n")...).proxierConfig()
	must(t, err)
	config.Kernel = &memoryKernel{state: rules.State{Name: config.Rules.Table}}
	p := proxier.New(config)
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}, Spec: corev1.NodeSpec{PodCIDRs: podCIDRs}}
	for _, a := range addresses {
		n.Status.Addresses = append(n.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: a})
	}
	p.ReplaceNodes([]*corev1.Node{n})
	p.ReplaceServiceCIDRs(nil)
	p.ReplaceServices(nil)
	p.ReplaceEndpointSlices(nil)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- p.Run(ctx) }()
	<-p.Synced()
	cancel()
	must(t, <-done)
	return p.Snapshot().Node
}
