// SPDX-License-Identifier: Apache-2.0

package check

import (
	"context"
	"fmt"
	"net"
	"strings"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/host"
	"github.com/nftproxy/nftproxy/conntrack"
	"github.com/nftproxy/nftproxy/printable"
	"github.com/nftproxy/nftproxy/proxier/nodeaddr"
	"github.com/nftproxy/nftproxy/rules"
)

func (n *Node) tracking(ctx context.Context, r *Report) {
	err := host.AskTracking(ctx)
	r.result("connection tracking", err, "flows to endpoints that are gone can be deleted", "the kernel needs nf_conntrack and nf_conntrack_netlink, and this program CAP_NET_ADMIN")
	if err != nil {
		return
	}
	n.trackingSettings(r)
	u, err := host.TrackingUsage(ctx)
	if err != nil {
		r.warning("connection tracking's table", printable.Error(err))
		return
	}
	r.tracked(u)
}

// tracked says how full connection tracking is.
func (r *Report) tracked(u conntrack.Usage) {
	const what, much = "connection tracking's table", 80
	if u.Max == 0 {
		r.ok(what, fmt.Sprintf("%d entries, without a limit", u.Entries))
		return
	}
	part := uint64(u.Entries) * 100 / uint64(u.Max)
	text := fmt.Sprintf("%d of %d entries, %d %%", u.Entries, u.Max, part)
	if part >= much {
		r.warning(what, text+": the kernel drops new connections where it is full; raise net.netfilter.nf_conntrack_max (conntrack.min in the configuration), and look for who opens so many")
		return
	}
	r.ok(what, text)
}

// trackingSettings says what is in force of what 'nftproxy run' sets.
func (n *Node) trackingSettings(r *Report) {
	const what = "connection tracking's settings"
	values, err := n.Settings.InForce(n.Root, host.CPUs())
	if err != nil {
		r.warning(what, err.Error())
		return
	}
	var good, other []string
	for _, v := range values {
		if v.OK() {
			good = append(good, fmt.Sprintf("%s %d", v.Name, v.Now))
		} else {
			other = append(other, fmt.Sprintf("nf_conntrack_%s is %d, not %d", v.Name, v.Now, v.Want))
		}
	}
	switch {
	case len(values) == 0:
		r.ok(what, "left as they are")
	case len(other) == 0:
		r.ok(what, strings.Join(good, ", "))
	default:
		if len(good) > 0 {
			other = append(other, "the others are as they should be ("+strings.Join(good, ", ")+")")
		}
		r.warning(what, strings.Join(other, ", ")+": 'nftproxy run --init-only' with full privileges sets this; the manifest's conntrackSysctls does")
		r.Fixes = append(r.Fixes, Fix{"set connection tracking up as 'nftproxy run' does", func() error { return n.Settings.Apply(n.Root, host.CPUs()) }})
	}
}

func (n *Node) forwarding(r *Report) {
	v4, v6 := nodeaddr.Families(n.Root)
	for _, s := range []struct {
		what, file, name string
		off              bool
	}{
		{"forwarding, IPv4", "proc/sys/net/ipv4/ip_forward", "net.ipv4.ip_forward", !v4},
		{"forwarding, IPv6", "proc/sys/net/ipv6/conf/all/forwarding", "net.ipv6.conf.all.forwarding", !v6},
	} {
		switch value := n.file(s.file); {
		case s.off:
			r.ok(s.what, "not needed: the node has no addresses of this family")
		case value == "1":
			r.ok(s.what, "on")
		case value == "":
			r.warning(s.what, "the kernel has none: Services of this family are not served")
		default:
			r.warning(s.what, "off: pods cannot reach endpoints on other nodes; sysctl -w "+s.name+"=1")
			r.offer(n.Root, s.name, "1")
		}
	}
}

// links is what the kernel has of links and routes.
type links struct {
	bridges []string // that are up
	// outside are links that are up and have an IPv4 address of a network: no bridges, and none that lead to a single pod.
	outside      []string
	defaultRoute [2]bool // by family
	addressed    [2]bool // the node has a global address
}

// routing looks for what keeps packets from their way, or answers from theirs.
func (n *Node) routing(r *Report) {
	l, err := look()
	if err != nil {
		r.fail("routes", printable.Error(err))
		return
	}
	for _, f := range rules.Families {
		what := "default route, " + [...]string{rules.IPv4: "IPv4", rules.IPv6: "IPv6"}[f]
		switch {
		case !l.addressed[f]:
		case l.defaultRoute[f]:
			r.ok(what, "there is one")
		default:
			r.warning(what, "none: the node's own connections to ClusterIPs and to load balancers' addresses end with 'network is unreachable' before any rule is asked, unless another route leads there; any does, such as "+anyRoute[f])
		}
	}
	n.bridges(r, l)
	n.reversePath(r, l)
}

// anyRoute is an example of a route for ClusterIPs.
var anyRoute = [...]string{
	rules.IPv4: "'ip route add 10.96.0.0/12 dev lo' with the range of your Services", rules.IPv6: "'ip -6 route add fd00:10:96::/112 dev lo' with the range of your Services",
}

// bridges says whether what goes from pod to pod over a bridge meets the rules.
func (n *Node) bridges(r *Report, l links) {
	const what = "bridges"
	if len(l.bridges) == 0 {
		return
	}
	names := printable.Word(strings.Join(l.bridges, ", "))
	var off []string
	for _, name := range []string{"bridge-nf-call-iptables", "bridge-nf-call-ip6tables"} {
		switch n.file("proc/sys/net/bridge/" + name) {
		case "1":
		case "":
			r.warning(what, names+": br_netfilter is not loaded: a pod whose connection to a Service goes to an endpoint on its own bridge gets no answer, as answers pass the rules by; modprobe br_netfilter or, where the kernel has none, masqueradeAll")
			return
		default:
			off = append(off, "sysctl -w net.bridge."+name+"=1")
			r.offer(n.Root, "net.bridge."+name, "1")
		}
	}
	if len(off) > 0 {
		r.warning(what, names+": a pod whose connection to a Service goes to an endpoint on its own bridge gets no answer, as answers pass the rules by; "+strings.Join(off, ", "))
		return
	}
	r.ok(what, names+": packets between their ports meet the rules")
}

// reversePath says whether packets are dropped that come in by another interface than their answers would go out.
func (n *Node) reversePath(r *Report, l links) {
	const what = "reverse path filter"
	strict := func(name string) bool {
		all, own := n.file("proc/sys/net/ipv4/conf/all/rp_filter"), n.file("proc/sys/net/ipv4/conf/"+name+"/rp_filter")
		return max(all, own) == "1" // the kernel takes the greater one; 2 is loose
	}
	var list []string
	for _, name := range l.outside {
		if strict(name) {
			list = append(list, printable.Word(name))
		}
	}
	if len(list) > 0 && len(l.outside) > 1 {
		r.warning(what, "strict on "+strings.Join(list, ", ")+", and the node has several interfaces: what comes in by another one than its answer would take is dropped; sysctl -w net.ipv4.conf.all.rp_filter=2")
		return
	}
	r.ok(what, "drops nothing that comes by the node's only way, or is off")
}

// ports says which of nftproxy's own addresses others have. While it runs, they are its own.
func (n *Node) ports(r *Report) {
	const what = "ports of our own"
	if pid, _ := n.Running(); pid != "" || len(n.Addresses) == 0 {
		return
	}
	free := true
	for _, a := range n.Addresses {
		l, err := net.Listen("tcp", a)
		if err == nil {
			err = l.Close()
		}
		if err != nil {
			free = false
			_, port, _ := net.SplitHostPort(a)
			r.warning(what, printable.Error(err)+": who has it is shown by 'ss -ltnp sport = :"+port+"'; nftproxy takes it over when it gets free, or give it another (--healthz-bind-address, --metrics-bind-address)")
		}
	}
	if free {
		r.ok(what, strings.Join(n.Addresses, ", ")+" are free")
	}
}
