// SPDX-License-Identifier: Apache-2.0

package check

import (
	"context"
	"fmt"
	"strings"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/host"
	"github.com/nftproxy/nftproxy/proxier/nodeaddr"
)

func (n *Node) tracking(ctx context.Context, r *Report) {
	err := host.AskTracking(ctx)
	r.result("connection tracking", err, "flows to endpoints that are gone can be deleted", "the kernel needs nf_conntrack and nf_conntrack_netlink, and this program CAP_NET_ADMIN")
	if err == nil {
		n.trackingSettings(r)
	}
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
		}
	}
}
