// SPDX-License-Identifier: Apache-2.0

//go:build linux

package ipvs

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/conntrack"
	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/proxier/nodeaddr"
	"github.com/nftproxy/nftproxy/rules"
)

func TestMain(m *testing.M) { os.Exit(netns.Main(m.Run)) }

// fakeNode is a node with IPVS and ipsets, which this machine's kernel may not have.
type fakeNode struct {
	addrs  []netip.Addr // of kube-ipvs0; nil: there is none
	list   []Server
	sets   map[string][]string // entries: PORT, or ADDRESS:PORT
	used   []string            // ipsets that a rule matches
	freed  time.Time           // when it matches them no more, if it is set
	refuse string              // what cannot be done
	gone   []string            // what was deleted, in order
}

var errRefused = errors.New("operation not permitted")

func (f *fakeNode) do(what string) error {
	if f.refuse != "" && strings.HasPrefix(what, f.refuse) {
		return errRefused
	}
	if strings.HasPrefix(what, "delete ") {
		f.gone = append(f.gone, strings.TrimPrefix(what, "delete "))
	}
	return nil
}

func (f *fakeNode) link() ([]netip.Addr, bool, error) { return f.addrs, f.addrs != nil, f.do("link") }
func (f *fakeNode) deleteLink() error                 { return f.do("delete link") }
func (f *fakeNode) servers() ([]Server, error)        { return f.list, f.do("servers") }
func (f *fakeNode) deleteServer(s Server) error       { return f.do("delete " + s.String()) }
func (f *fakeNode) hasSet(name string) (bool, error)  { return f.sets[name] != nil, f.do("set") }
func (f *fakeNode) inSet(name string, s Server) (bool, error) {
	port := fmt.Sprint(s.At.Port())
	return slices.Contains(f.sets[name], port) || slices.Contains(f.sets[name], s.At.String()), f.do("in set")
}

func (f *fakeNode) deleteSet(name string) error {
	if slices.Contains(f.used, name) && (f.freed.IsZero() || time.Now().Before(f.freed)) {
		return errInUse
	}
	return f.do("delete " + name)
}

func server(protocol uint8, at string) Server {
	a := netip.MustParseAddrPort(at)
	return Server{At: a, Protocol: protocol, IPv6: a.Addr().Is6()}
}

func addrs(list ...string) []netip.Addr {
	out := []netip.Addr{}
	for _, s := range list {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

const (
	tcp  = unix.IPPROTO_TCP
	udp  = unix.IPPROTO_UDP
	sctp = unix.IPPROTO_SCTP
)

// TestWhoseServers: what kube-proxy made goes, and what others made stays.
func TestWhoseServers(t *testing.T) {
	for _, tt := range []struct {
		name         string
		node         fakeNode
		kube, others string
	}{
		{name: "nothing", node: fakeNode{}},
		{name: "ClusterIPs of both families", node: fakeNode{addrs: addrs("10.96.0.1", "fd00:96::1"),
			list: []Server{server(tcp, "10.96.0.1:443"), server(udp, "10.96.0.1:53"), server(tcp, "[fd00:96::1]:443"), server(sctp, "10.96.0.1:9")}},
			kube: "[TCP 10.96.0.1:443 UDP 10.96.0.1:53 TCP [fd00:96::1]:443 SCTP 10.96.0.1:9]"},
		{name: "keepalived's", node: fakeNode{addrs: addrs("10.96.0.1"),
			list: []Server{server(tcp, "10.96.0.1:443"), server(tcp, "192.0.2.7:443"), {Mark: 5}}},
			kube: "[TCP 10.96.0.1:443]", others: "[TCP 192.0.2.7:443 FWM 5]"},
		{name: "only keepalived's", node: fakeNode{list: []Server{server(tcp, "192.0.2.7:443")}}, others: "[TCP 192.0.2.7:443]"},
		{name: "NodePorts", node: fakeNode{addrs: addrs("10.96.0.1"),
			sets: map[string][]string{"KUBE-NODE-PORT-TCP": {"30080"}, "KUBE-NODE-PORT-UDP": {"30053"}, "KUBE-6-NODE-PORT-TCP": {"30086"}, "KUBE-NODE-PORT-SCTP-HASH": {"172.18.0.2:30009"}},
			list: []Server{server(tcp, "172.18.0.2:30080"), server(udp, "172.18.0.2:30080"), server(udp, "172.18.0.2:30053"),
				server(tcp, "[fd00:18::2]:30086"), server(tcp, "[fd00:18::2]:30080"), server(sctp, "172.18.0.2:30009"), server(sctp, "172.18.0.3:30009")}},
			kube:   "[TCP 172.18.0.2:30080 UDP 172.18.0.2:30053 TCP [fd00:18::2]:30086 SCTP 172.18.0.2:30009]",
			others: "[UDP 172.18.0.2:30080 TCP [fd00:18::2]:30080 SCTP 172.18.0.3:30009]"},
		{name: "a NodePort without kube-proxy's ipsets", node: fakeNode{addrs: addrs("10.96.0.1"), list: []Server{server(tcp, "172.18.0.2:30080")}}, others: "[TCP 172.18.0.2:30080]"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l, err := find(&tt.node)
			if err != nil {
				t.Fatal(err)
			}
			text := func(list []Server) string {
				if len(list) == 0 {
					return ""
				}
				return fmt.Sprint(list)
			}
			if kube, others := text(l.Servers), text(l.Others); kube != tt.kube || others != tt.others {
				t.Errorf("kube-proxy's: %s, others: %s; want %s, %s", kube, others, tt.kube, tt.others)
			}
			if foreign := l.Foreign(); (foreign != "") != (tt.others != "") {
				t.Errorf("of others it says %q", foreign)
			}
			lines, err := l.RemoveServers()
			if err != nil {
				t.Error(err)
			}
			for _, s := range l.Others {
				if slices.Contains(tt.node.gone, s.String()) {
					t.Errorf("%s of others was removed: %q", s, lines)
				}
			}
			for _, s := range l.Servers {
				if !slices.Contains(tt.node.gone, s.String()) {
					t.Errorf("%s was not removed: %q", s, lines)
				}
			}
		})
	}
}

// TestRemove: in order, what is told, and what fails holds up nothing else.
func TestRemove(t *testing.T) {
	full := func(refuse string, used ...string) *fakeNode {
		return &fakeNode{addrs: addrs("10.96.0.1", "10.96.0.2"), list: []Server{server(tcp, "10.96.0.1:443"), server(udp, "10.96.0.2:53")},
			sets: map[string][]string{"KUBE-CLUSTER-IP": {}, "KUBE-6-CLUSTER-IP": {}}, refuse: refuse, used: used}
	}
	const servers, link, sets = "removed 2 of kube-proxy's virtual servers from IPVS", "removed kube-proxy's link kube-ipvs0, with 2 addresses", "removed 2 of kube-proxy's ipsets"
	for _, tt := range []struct {
		name  string
		node  *fakeNode
		lines []string
		fails string
	}{
		{"nothing", &fakeNode{}, nil, ""},
		{"all", full(""), []string{servers, link, sets}, ""},
		{"a link without addresses", &fakeNode{addrs: addrs()}, []string{"removed kube-proxy's link kube-ipvs0, with 0 addresses"}, ""},
		{"a server stays", full("delete UDP"), []string{"removed 1 of kube-proxy's virtual servers from IPVS", link, sets}, "remove virtual server UDP 10.96.0.2:53 from IPVS: operation not permitted"},
		{"the link stays", full("delete link"), []string{servers, sets}, "remove the link kube-ipvs0: operation not permitted"},
		{"an ipset stays", full("delete KUBE-6"), []string{servers, link, "removed 1 of kube-proxy's ipsets"}, "remove ipset KUBE-6-CLUSTER-IP: operation not permitted"},
		{"an ipset is used", full("", "KUBE-CLUSTER-IP"), []string{servers, link, "removed 1 of kube-proxy's ipsets",
			"kube-proxy's ipsets KUBE-CLUSTER-IP stay, because rules of iptables use them: remove those with 'kube-proxy --cleanup', and run this again"}, ""},
	} {
		synctest.Test(t, func(t *testing.T) { // it waits for ipsets
			l, err := find(tt.node)
			if err != nil {
				t.Fatal(err)
			}
			lines, err := l.RemoveServers()
			more, setsErr := l.RemoveSets()
			if lines = append(lines, more...); !slices.Equal(lines, tt.lines) {
				t.Errorf("%s: it says %q, want %q", tt.name, lines, tt.lines)
			}
			if err = errors.Join(err, setsErr); err == nil && tt.fails != "" || err != nil && err.Error() != tt.fails {
				t.Errorf("%s: error %v, want %q", tt.name, err, tt.fails)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		node := full("", "KUBE-CLUSTER-IP")
		node.freed = time.Now().Add(patience / 2)
		l, err := find(node)
		if err != nil {
			t.Fatal(err)
		}
		if lines, err := l.RemoveSets(); err != nil || !slices.Equal(lines, []string{sets}) {
			t.Errorf("an ipset that rules let go of later: %v, %q", err, lines)
		}
	})
	for _, what := range []string{"link", "servers", "set"} {
		if _, err := find(full(what)); !errors.Is(err, errRefused) {
			t.Errorf("%s cannot be read: %v", what, err)
		}
	}
}

// TestSetNames: those that kube-proxy has, none longer than the kernel takes.
func TestSetNames(t *testing.T) {
	names := setNames()
	for _, want := range []string{"KUBE-LOOP-BACK", "KUBE-6-LOOP-BACK", "KUBE-LOAD-BALANCER-SOURCE-CIDR", "KUBE-6-LOAD-BALANCER-SOURCE-CID", "KUBE-NODE-PORT-LOCAL-SCTP-HASH"} {
		if !slices.Contains(names, want) {
			t.Errorf("%s is missing in %q", want, names)
		}
	}
	for _, name := range names {
		if len(name) > 31 {
			t.Errorf("%s is too long", name)
		}
	}
}

// TestLink finds and removes the link on this kernel, whatever its type is; without IPVS and ipsets nothing fails.
func TestLink(t *testing.T) {
	ns, err := netns.New("node")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ns.Close() }()
	look := func() (l Left) {
		t.Helper()
		if err := ns.Do(func() (err error) { l, err = Find("/"); return err }); err != nil {
			t.Fatal(err)
		}
		return l
	}
	if l := look(); l.Link || len(l.Found()) > 0 {
		t.Errorf("on a new node it finds %q", l.Found())
	}
	if err := ns.Do(func() error { return addLink("10.96.0.10/32", "fd00:96::a/128") }); err != nil {
		t.Fatal(err)
	}
	l := look()
	if got := fmt.Sprint(l.Addrs); !l.Link || got != "[10.96.0.10 fd00:96::a]" {
		t.Errorf("the link is there: %v, with addresses %s", l.Link, got)
	}
	if err := ns.Do(func() error { _, err := l.RemoveServers(); return err }); err != nil {
		t.Error(err)
	}
	if l := look(); l.Link {
		t.Error("the link is still there")
	}
}

func addLink(cidrs ...string) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = nodeaddr.IPVSLink
	link := &netlink.Bridge{LinkAttrs: attrs}
	if err := netlink.LinkAdd(link); err != nil {
		return err
	}
	for _, cidr := range cidrs {
		a, err := netlink.ParseAddr(cidr)
		if err != nil {
			return err
		}
		a.Flags = unix.IFA_F_NODAD
		if err := netlink.AddrAdd(link, a); err != nil {
			return err
		}
	}
	return nil
}

// TestForwards: a flow that NAT translated, one of another server, port or protocol, are not IPVS'.
func TestForwards(t *testing.T) {
	at := netip.MustParseAddrPort
	forwards := Left{Servers: []Server{
		{At: at("10.96.0.1:80"), Protocol: unix.IPPROTO_TCP}, {At: at("[fd00::1]:53"), Protocol: unix.IPPROTO_UDP, IPv6: true}, {Mark: 5, Protocol: unix.IPPROTO_TCP},
	}, Others: []Server{{At: at("10.96.0.9:80"), Protocol: unix.IPPROTO_TCP}}}.Forwards()
	for _, tt := range []struct {
		to     string
		p      rules.Protocol
		status uint32
		want   bool
	}{
		{"10.96.0.1:80", rules.TCP, conntrack.StatusSeenReply, true},
		{"10.96.0.1:80", rules.TCP, 0, true},
		{"[fd00::1]:53", rules.UDP, 0, true},
		{"10.96.0.1:80", rules.TCP, conntrack.StatusSeenReply | conntrack.StatusDestinationNAT, false},
		{"10.96.0.1:81", rules.TCP, 0, false},
		{"10.96.0.1:80", rules.UDP, 0, false},
		{"10.96.0.9:80", rules.TCP, 0, false},
	} {
		f := conntrack.Flow{Protocol: tt.p, Status: tt.status, Orig: conntrack.Tuple{Src: at("10.244.1.10:999"), Dst: at(tt.to)}}
		if got := forwards(f); got != tt.want {
			t.Errorf("%s with status %x: %v", f, tt.status, got)
		}
	}
}
