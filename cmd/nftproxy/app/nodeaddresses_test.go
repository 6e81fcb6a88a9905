// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/nftproxy/nftproxy/proxier"
	"github.com/nftproxy/nftproxy/rules"
)

// ofKubeProxy calls f with each line of what kube-proxy's own tests expect, and its name.
func ofKubeProxy(t *testing.T, file string, f func(name string, line []byte)) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("../../../proxier/cluster/testdata/kube-proxy", file))
	must(t, err)
	lines := 0
	for line := range strings.Lines(string(data)) {
		var c struct{ Test string }
		must(t, json.Unmarshal([]byte(line), &c))
		f(c.Test, []byte(line))
		lines++
	}
	if lines == 0 {
		t.Errorf("%s is empty", file)
	}
}

// TestKeywordsOfKubeProxy replays what kube-proxy's own tests expect of nodePortAddresses' keywords.
func TestKeywordsOfKubeProxy(t *testing.T) {
	ofKubeProxy(t, "keyword.jsonl", func(name string, line []byte) {
		var c struct {
			Addresses, CIDRs []string
			NodeIPs          map[string]netip.Addr
		}
		must(t, json.Unmarshal(line, &c))
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
			t.Errorf("%s: %v become %v, want %v", name, c.Addresses, got, c.CIDRs)
		}
	})
}

// TestNodeIPsOfKubeProxy replays what kube-proxy's own tests expect of the node's addresses.
func TestNodeIPsOfKubeProxy(t *testing.T) {
	const loopback = "a loopback address as --bind-address is none by which others reach the node: the Node object's counts"
	onPurpose := map[string]string{
		"Test_detectNodeIPs/Dual_stack,_override_primary_family,_IPv4": loopback,
		"Test_detectNodeIPs/Dual_stack,_override_primary_family,_IPv6": loopback,
	}
	ofKubeProxy(t, "nodeip.jsonl", func(name string, line []byte) {
		var c struct {
			Bind       string
			Raw        []string
			IPv4, IPv6 netip.Addr
		}
		must(t, json.Unmarshal(line, &c))
		got := nodeIPs(t, c.Bind, c.Raw)
		same := true
		for i, want := range []netip.Addr{c.IPv4, c.IPv6} {
			if want.IsLoopback() {
				want = netip.Addr{} // what kube-proxy says where there is none
			}
			same = same && got[i] == want
		}
		switch reason := onPurpose[name]; {
		case same && reason != "":
			t.Errorf("%s: nothing differs any more; it was to differ because %s", name, reason)
		case !same && reason == "":
			t.Errorf("%s: %v, want %v and %v", name, got, c.IPv4, c.IPv6)
		}
		delete(onPurpose, name)
	})
	if len(onPurpose) > 0 {
		t.Errorf("there is no such case: %v", onPurpose)
	}
}

// nodeIPs returns what a proxier takes for the node's addresses.
func nodeIPs(t *testing.T, bind string, ofNode []string) [2]netip.Addr {
	t.Helper()
	config, err := flagOptions(t, "--hostname-override=n", "--bind-address="+bind).proxierConfig()
	must(t, err)
	config.Kernel = &memoryKernel{state: rules.State{Name: config.Rules.Table}}
	p := proxier.New(config)
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}}
	for _, a := range ofNode {
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
	return p.Snapshot().Node.IPs
}
