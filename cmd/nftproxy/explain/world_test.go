// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/nftproxy/nftproxy/internal/golden"
	"github.com/nftproxy/nftproxy/rules"
)

// TestErrors: what cannot be explained is refused, with the reason.
func TestErrors(t *testing.T) {
	n := programmed(t, nil)
	n.Node.ServiceCIDRs = []netip.Prefix{netip.MustParsePrefix("10.96.0.0/16")}
	kernel := FromKernel(*n.Have)
	for _, tt := range []struct {
		w            *World
		target, from string
		want         string
	}{
		{n.World, "web", "", `"web" is neither NAMESPACE/NAME, NAMESPACE/NAME:PORT nor ADDRESS:PORT/PROTOCOL, such as default/web, default/web:http or 10.96.0.10:80/tcp`},
		{n.World, "10.96.0.10:80/icmp", "", `"10.96.0.10:80/icmp": "icmp" is none of tcp, udp, sctp`},
		{n.World, "shop/web", "", "there is no Service shop/web with a ClusterIP: there is default/web"},
		{n.World, "default/nothing", "", "there is no Service default/nothing with a ClusterIP"},
		{n.World, "default/web:81", "", `service default/web has no port "81": it has http (80/tcp)`},
		{n.World, "default/zones:http", "", `service default/zones has no port "http": it has 80/tcp`},
		{n.World, "default/zones", "fd00:244:2::9", "no client has an address in the families of default/zones: choose another with --from"},
		{n.World, "10.244.1.2:8080/tcp", "", "10.244.1.2:8080/tcp is an endpoint of Service default/web, not an address of a Service: connections to it meet none of nftproxy's rules"},
		{n.World, "10.96.7.7:80", "", "no Service has 10.96.7.7:80: connections to an address of the ServiceCIDR 10.96.0.0/16 that no Service has are dropped"},
		{n.World, "127.0.0.1:30080", "", "127.0.0.1:30080/tcp: no rule serves NodePorts on loopback addresses; with --nodeport-addresses localhost nftproxy forwards them itself"},
		{n.World, "192.0.2.1:80/udp", "", "192.0.2.1:80/udp is neither an address of a Service nor a NodePort on this node"},
		{n.World, "0.0.0.0:30080/tcp", "", "0.0.0.0:30080/tcp is neither an address of a Service nor a NodePort on this node"},
		{n.World, "[::]:30080", "", "[::]:30080/tcp is neither an address of a Service nor a NodePort on this node"},
		{kernel, "default/nothing", "", "the kernel has no chain of a Service default/nothing; one without a choice of endpoints needs none: give its ADDRESS:PORT/PROTOCOL"},
	} {
		t.Run(tt.target, func(t *testing.T) {
			target, err := ParseTarget(tt.target, "")
			if err == nil {
				var clients []Client
				if tt.from != "" {
					clients = append(clients, tt.w.ClientAt(netip.MustParseAddr(tt.from)))
				}
				_, err = tt.w.Explain(target, clients)
			}
			if fmt.Sprint(err) != tt.want {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
		})
	}
}

// TestFromKernel: without another source the kernel's chains and sets tell what they can.
func TestFromKernel(t *testing.T) {
	n := programmed(t, nil)
	w := FromKernel(*n.Have)
	w.Config.PodCIDRs = n.Config.PodCIDRs
	w.Local = append(w.Local, n.Local...)
	for _, target := range []string{"default/web", "default/sticky", "10.96.0.13:5000/sctp", "10.200.0.15:443/tcp", "172.18.0.2:30080/tcp"} {
		t.Run(strings.NewReplacer("/", "_", ":", "_").Replace(target), func(t *testing.T) { golden.Check(t, golden.Named(t, ".txt"), w.text(t, target, false)) })
	}
}

// TestJSON shows the shape that programs read.
func TestJSON(t *testing.T) {
	n := programmed(t, nil)
	for _, name := range []string{"local", "second", "none"} {
		t.Run(name, func(t *testing.T) {
			target, err := ParseTarget("default/"+name, "")
			if err != nil {
				t.Fatal(err)
			}
			e, err := n.Explain(target, []Client{n.OutsideClient()})
			if err != nil {
				t.Fatal(err)
			}
			out, err := json.MarshalIndent(e, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			golden.Check(t, golden.Named(t, ".txt"), string(out)+"\n")
		})
	}
}

// TestObserver: what a source tells besides is kept, and passed on.
func TestObserver(t *testing.T) {
	o := programmed(t, nil).observer
	if !o.HasNode() {
		t.Error("the Node is not seen")
	}
	want := []netip.Addr{netip.MustParseAddr("10.244.1.2"), netip.MustParseAddr("fd00:244:1::2")}
	if got := o.Pod("default/web-1"); !slices.Equal(got, want) {
		t.Errorf("pod default/web-1 has %v, want %v", got, want)
	}
	if got := o.Pod("default/nobody"); got != nil {
		t.Errorf("a pod that is no endpoint has %v", got)
	}
	for name, want := range map[string]string{
		"headless": "is headless, so that clients get its endpoints from DNS", "alias": "is of type ExternalName, a name in DNS", "web": "", "nothing": "",
	} {
		if got := o.Unaddressed("default", name); got != want {
			t.Errorf("Service default/%s %q, want %q", name, got, want)
		}
	}
}

// TestPortAt: each frontend is its service port's, and no other address is.
func TestPortAt(t *testing.T) {
	n := programmed(t, nil)
	for at, want := range map[string]string{
		"10.96.0.10:80": "default/web:http", "[fd00:10:96::a]:80": "default/web:http", "172.18.0.2:30080": "default/web:http", "10.200.0.15:443": "default/local:https",
		"10.201.0.19:80": "default/first", "203.0.113.5:6443": "", "10.96.0.10:81": "", "10.244.1.2:8080": "", "172.18.0.3:30080": "",
	} {
		got := ""
		if p := n.PortAt(rules.FrontendAt(netip.MustParseAddrPort(at), rules.TCP)); p != nil {
			got = p.Name.String()
		}
		if got != want {
			t.Errorf("%s is of %q, want %q", at, got, want)
		}
	}
}

// TestClients: an address is a pod's, the node's or an outsider's by what is known of the node.
func TestClients(t *testing.T) {
	n := programmed(t, nil)
	n.Config.PodInterface = "veth*"
	n.InterfaceTo = func(a netip.Addr) (string, error) {
		if a == netip.MustParseAddr("10.244.1.99") {
			return "veth7", nil
		}
		return "", fmt.Errorf("no route to %s", a)
	}
	for address, want := range map[string]Client{
		"172.18.0.2":  {IsNode: true},
		"127.0.0.1":   {IsNode: true},
		"10.244.1.99": {Interface: "veth7"},          // by the node's routes
		"10.244.1.2":  {Interface: "veth"},           // an endpoint on this node
		"10.244.2.2":  {Interface: outsideInterface}, // one on another node
	} {
		got := n.ClientAt(netip.MustParseAddr(address))
		if got.IsNode != want.IsNode || got.Interface != want.Interface || got.Name != address {
			t.Errorf("%s is %+v, want %+v", address, got, want)
		}
	}
	n.Config.PodInterface, n.Config.PodCIDRs, n.Node.PodCIDRs = "", nil, nil
	if c, ok := n.PodClient(); ok {
		t.Errorf("nothing tells where pods are, but one is %+v", c)
	}
}
