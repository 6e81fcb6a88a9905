// SPDX-License-Identifier: Apache-2.0

package cluster_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"

	"github.com/nftproxy/nftproxy/internal/kubeproxytests"
	"github.com/nftproxy/nftproxy/proxier/cluster"
	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/tracer"
)

// kubeProxyCase is what a test of kube-proxy gives to a proxier, and what becomes of packets.
type kubeProxyCase struct {
	Source, Test string
	// Proxier is the same for cases one after the other that change the objects of one proxier; 0: each has its own.
	Proxier int
	Options struct {
		ClusterCIDR, NodePortAddresses, ServiceCIDRs []netip.Prefix
		NodeName                                     string
		Labels                                       map[string]string
		MasqueradeAll                                bool
	}
	Objects []json.RawMessage
	Flows   []kubeProxyFlow
}

// kubeProxyFlow is a connection, and what becomes of it.
type kubeProxyFlow struct{ kubeproxytests.Flow }

func (f *kubeProxyFlow) String() string {
	return fmt.Sprintf("%s to %s %s", f.Src, netip.AddrPortFrom(f.Dst, f.Port), f.Proto)
}

// want says what is to become of it.
func (f *kubeProxyFlow) want() string {
	var to []string
	for _, o := range f.Outputs {
		to = append(to, ending(tracer.Result{To: o.To, Masqueraded: o.Masq}, f.Dst))
	}
	switch f.Verdict {
	case "DNAT":
		return list(to)
	case "REJECT":
		return "refused"
	case "DROP":
		return "dropped"
	}
	return "left alone" // NONE, and ACCEPT for what a firewall is to let through
}

func ending(r tracer.Result, dst netip.Addr) string {
	switch {
	case r.Rejected:
		return "refused"
	case r.Dropped:
		return "dropped"
	case r.To.Addr() == dst && !r.Masqueraded:
		return "left alone"
	case r.Masqueraded:
		return r.To.String() + " masqueraded"
	}
	return r.To.String()
}

func list(endings []string) string {
	slices.Sort(endings)
	return strings.Join(slices.Compact(endings), ", ")
}

// kubeProxyAddresses are those of the node in kube-proxy's tests.
type kubeProxyAddresses struct{}

func (kubeProxyAddresses) Addrs() (out []netip.Addr) {
	for _, s := range []string{"127.0.0.1", "192.168.0.2", "192.168.1.2", "::1", "2001:db8::1", "2001:db8:1::2"} {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

func (a kubeProxyAddresses) Primary() [2]netip.Addr {
	return [2]netip.Addr{rules.IPv4: a.Addrs()[1], rules.IPv6: a.Addrs()[4]}
}

func (kubeProxyAddresses) Changed() <-chan struct{} { return nil }

type nobody struct{}

func (nobody) Changed()             {}
func (nobody) SetNodeEligible(bool) {}

// replay is a proxier of kube-proxy's tests.
type replay struct {
	cluster *cluster.Cluster
	config  rules.Config
	desired *rules.Desired
	node    rules.Node
}

func newReplay(c *kubeProxyCase) *replay {
	o := &c.Options
	config := cluster.Config{NodeName: o.NodeName, Addresses: kubeProxyAddresses{}, NodePorts: cluster.NodePortAddresses{CIDRs: o.NodePortAddresses}}
	r := &replay{cluster: cluster.New(config, nobody{})}
	r.config = rules.Config{PodCIDRs: o.ClusterCIDR, MasqueradeAll: o.MasqueradeAll, AllNodePortIPs: config.NodePorts.Everything()}.WithDefaults()
	r.desired = rules.NewDesired(r.config, rules.Node{})
	return r
}

// set gives a proxier all objects of a case, and programs what they change.
func (r *replay) set(t *testing.T, c *kubeProxyCase) {
	t.Helper()
	node := &corev1.Node{}
	node.Name, node.Labels = c.Options.NodeName, c.Options.Labels
	nodes := []*corev1.Node{node}
	var services []*corev1.Service
	var endpoints []*discoveryv1.EndpointSlice
	for _, data := range c.Objects {
		switch object := kubeproxytests.Object(t, c.Test, data, map[string]any{"Service": new(corev1.Service), "EndpointSlice": new(discoveryv1.EndpointSlice), "Node": new(corev1.Node)}).(type) {
		case *corev1.Service:
			services = append(services, object)
		case *discoveryv1.EndpointSlice:
			endpoints = append(endpoints, object)
		case *corev1.Node:
			nodes = []*corev1.Node{object}
		}
	}
	cidr := &networkingv1.ServiceCIDR{}
	for _, p := range c.Options.ServiceCIDRs {
		cidr.Spec.CIDRs = append(cidr.Spec.CIDRs, p.String())
	}
	sink := cluster.NewSink(r.cluster)
	sink.ReplaceNodes(nodes)
	sink.ReplaceServiceCIDRs([]*networkingv1.ServiceCIDR{cidr})
	sink.ReplaceServices(services)
	sink.ReplaceEndpointSlices(endpoints)
	changes, view := r.cluster.Take()
	defer view.Close()
	r.node = changes.Node
	r.desired.SetNode(r.node)
	var owned []rules.Owned
	for _, o := range changes.Owners {
		in := view.Input(o.Owner)
		owned = append(owned, rules.Owned{Owner: o.Owner, Objects: rules.Build(in.Port, in.Endpoints, r.config, r.node)})
	}
	r.desired.Update(owned)
}

// outcome sends a flow's first packet once for each endpoint that may be chosen, and says what becomes of it.
func (r *replay) outcome(t *testing.T, f *kubeProxyFlow) string {
	t.Helper()
	protocol, err := rules.ParseProtocol(f.Proto)
	if err != nil {
		t.Fatal(err)
	}
	choice, most := uint32(0), uint32(1)
	local := kubeProxyAddresses{}.Addrs()
	tr := tracer.Tracer{State: r.desired.State(), Local: local, Forget: true, Choose: func(mod uint32) uint32 {
		most = max(most, mod)
		return choice
	}}
	packet := tracer.Packet{Protocol: protocol, Src: netip.AddrPortFrom(f.Src, 40000), Dst: netip.AddrPortFrom(f.Dst, f.Port), Interface: "eth0"}
	var endings []string
	for ; choice < most; choice++ {
		end, err := tr.Trace(packet, slices.Contains(local, f.Src))
		if err != nil {
			t.Fatal(err)
		}
		endings = append(endings, ending(end, f.Dst))
	}
	return list(endings)
}

// TestPacketsOfKubeProxy replays what kube-proxy's own tests expect of packets.
func TestPacketsOfKubeProxy(t *testing.T) {
	t.Parallel()
	onPurpose := kubeProxyPurposes()
	differences := map[string]string{}
	cases := kubeproxytests.Read[kubeProxyCase](t, "cases")
	var r *replay
	flows := 0
	for i := range cases {
		c := &cases[i]
		if i == 0 || c.Proxier == 0 || c.Proxier != cases[i-1].Proxier || c.Source != cases[i-1].Source {
			r = newReplay(c)
		}
		r.set(t, c)
		for j := range c.Flows {
			f := &c.Flows[j]
			flows++
			name := fmt.Sprintf("%s %s: %s", c.Source, c.Test, f)
			if got, want := r.outcome(t, f), f.want(); got != want {
				differences[name] = fmt.Sprintf("%s, kube-proxy: %s", got, want)
			} else if _, ok := differences[name]; !ok {
				differences[name] = ""
			}
		}
	}
	t.Logf("%d cases, %d flows", len(cases), flows)
	onPurpose.Compare(t, differences)
}

// kubeProxyPurposes says which connections fare otherwise than with kube-proxy on purpose.
func kubeProxyPurposes() kubeproxytests.Purposes {
	const (
		refused  = "kube-proxy's iptables mode leaves other ports of a ClusterIP alone; its nftables mode refuses them, too"
		loopback = "kube-proxy's iptables mode has localhostNodePorts on by default; as in its nftables mode nodePortAddresses must have loopback addresses"
	)
	out := kubeproxytests.Purposes{
		"iptables TestClusterIPGeneral: 10.180.0.2 to 172.30.0.41:443 tcp": refused,
		"iptables TestClusterIPGeneral: 10.180.0.2 to 172.30.0.42:80 udp":  refused,

		"iptables TestNodePorts/ipv4,_localhost-nodeports_enabled: 127.0.0.1 to 127.0.0.1:3001 tcp": loopback,

		"topology TestCategorizeEndpoints/PreferSameNode_falls_back_to_same-zone_when_feature_gate_disabled " +
			"(PreferSameTrafficDistribution off): 172.31.0.2 to 172.30.0.41:80 tcp": "the gate is on in Kubernetes 1.35 and later, and there is none here: hints of nodes count",
	}
	for _, variant := range []string{"base", "masqueradeAll", "masqueradeAll,_no_LocalTrafficDetector", "no_LocalTrafficDetector"} {
		for _, port := range []string{"3001", "3002", "3003"} {
			out["iptables TestInternalExternalMasquerade/"+variant+": 127.0.0.1 to 127.0.0.1:"+port+" tcp"] = loopback
		}
	}
	return out
}
