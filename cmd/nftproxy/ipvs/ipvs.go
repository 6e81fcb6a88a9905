// SPDX-License-Identifier: Apache-2.0

package ipvs

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/nftproxy/nftproxy/conntrack"
	"github.com/nftproxy/nftproxy/proxier/nodeaddr"
	"github.com/nftproxy/nftproxy/rules"
)

// Server is a virtual server: where IPVS takes connections.
type Server struct {
	At       netip.AddrPort // not valid for one that a firewall mark chooses
	Protocol uint8          // IPPROTO_TCP, IPPROTO_UDP or IPPROTO_SCTP
	Mark     uint32         // of a firewall, in place of the others
	IPv6     bool
}

// String names it as ipvsadm does.
func (s Server) String() string {
	if !s.At.IsValid() {
		return fmt.Sprintf("FWM %d", s.Mark)
	}
	return fmt.Sprintf("%s %s", strings.ToUpper(rules.Protocol(s.Protocol).String()), s.At)
}

// Left is what is there.
type Left struct {
	// Link says that kube-ipvs0 is there, and Addrs are its addresses.
	Link  bool
	Addrs []netip.Addr
	// Servers are kube-proxy's virtual servers, Others those of other programs.
	Servers, Others []Server
	// Sets are the names of kube-proxy's ipsets.
	Sets []string

	node node
}

// node is what a node has.
type node interface {
	// link returns the addresses of kube-ipvs0, and whether it is there.
	link() ([]netip.Addr, bool, error)
	deleteLink() error
	servers() ([]Server, error)
	deleteServer(Server) error
	hasSet(name string) (bool, error)
	// inSet says whether an ipset of ports, or of addresses and ports, has that of a virtual server.
	inSet(name string, s Server) (bool, error)
	deleteSet(name string) error
}

// Find looks for what kube-proxy left. root is that of /proc and /sys.
func Find(root string) (Left, error) { return find(newNode(root)) }

func find(n node) (Left, error) {
	l := Left{node: n}
	var err error
	if l.Addrs, l.Link, err = n.link(); err != nil {
		return l, fmt.Errorf("look for the link %s: %w", nodeaddr.IPVSLink, err)
	}
	for _, name := range setNames() {
		found, setErr := n.hasSet(name)
		if setErr != nil {
			return l, fmt.Errorf("look for ipset %s: %w", name, setErr)
		}
		if found {
			l.Sets = append(l.Sets, name)
		}
	}
	servers, err := n.servers()
	if err != nil {
		return l, fmt.Errorf("list the virtual servers of IPVS: %w", err)
	}
	for _, s := range servers {
		ours, err := l.made(s)
		if err != nil {
			return l, err
		}
		if ours {
			l.Servers = append(l.Servers, s)
		} else {
			l.Others = append(l.Others, s)
		}
	}
	return l, nil
}

// made says whether kube-proxy made a virtual server.
func (l *Left) made(s Server) (bool, error) {
	if !s.At.IsValid() {
		return false, nil
	}
	if slices.Contains(l.Addrs, s.At.Addr()) {
		return true, nil
	}
	name := nodePortSet(s)
	if !slices.Contains(l.Sets, name) {
		return false, nil
	}
	in, err := l.node.inSet(name, s)
	if err != nil {
		return false, fmt.Errorf("look for %s in ipset %s: %w", s, name, err)
	}
	return in, nil
}

// Found describes what is there, a line each.
func (l Left) Found() []string {
	var out []string
	if l.Link {
		out = append(out, fmt.Sprintf("the link %s of kube-proxy's mode ipvs is there, with %d addresses: every port of these reaches this node itself", nodeaddr.IPVSLink, len(l.Addrs)))
	}
	if len(l.Servers) > 0 {
		out = append(out, fmt.Sprintf("%d of kube-proxy's virtual servers are in IPVS (%s)", len(l.Servers), some(l.Servers)))
	}
	if len(l.Sets) > 0 {
		out = append(out, fmt.Sprintf("%d of kube-proxy's ipsets are there", len(l.Sets)))
	}
	return out
}

// Foreign describes the virtual servers that stay; empty if there are none.
func (l Left) Foreign() string {
	if len(l.Others) == 0 {
		return ""
	}
	return fmt.Sprintf("%d virtual servers in IPVS (%s) are at no address of %s and at no NodePort of kube-proxy's ipsets: they are taken for another program's and stay; "+
		"if kube-proxy made them, remove them with 'kube-proxy --cleanup' or 'ipvsadm --clear'", len(l.Others), some(l.Others), nodeaddr.IPVSLink)
}

// some names a few virtual servers.
func some(list []Server) string {
	const most = 3
	var out []string
	for _, s := range list[:min(most, len(list))] {
		out = append(out, s.String())
	}
	if len(list) > most {
		out = append(out, "...")
	}
	return strings.Join(out, ", ")
}

// Forwards returns a function that says of a flow whose destination was translated whether one of kube-proxy's virtual servers did
// it: NAT leaves a mark of its own.
func (l Left) Forwards() func(conntrack.Flow) bool {
	type server struct {
		at       netip.AddrPort
		protocol uint8
	}
	servers := map[server]bool{}
	for _, s := range l.Servers {
		servers[server{s.At, s.Protocol}] = true
	}
	return func(f conntrack.Flow) bool {
		return f.Status&conntrack.StatusDestinationNAT == 0 && servers[server{f.Orig.Dst, uint8(f.Protocol)}]
	}
}

// RemoveServers removes the virtual servers and the link, and returns what was removed, a line each.
func (l Left) RemoveServers() ([]string, error) {
	var out []string
	var errs []error
	removed := 0
	for _, s := range l.Servers {
		if err := l.node.deleteServer(s); err != nil {
			errs = append(errs, fmt.Errorf("remove virtual server %s from IPVS: %w", s, err))
			continue
		}
		removed++
	}
	if removed > 0 {
		out = append(out, fmt.Sprintf("removed %d of kube-proxy's virtual servers from IPVS", removed))
	}
	if l.Link {
		if err := l.node.deleteLink(); err != nil {
			errs = append(errs, fmt.Errorf("remove the link %s: %w", nodeaddr.IPVSLink, err))
		} else {
			out = append(out, fmt.Sprintf("removed kube-proxy's link %s, with %d addresses", nodeaddr.IPVSLink, len(l.Addrs)))
		}
	}
	return out, errors.Join(errs...)
}

// errInUse is what deleteSet returns for an ipset that a rule matches.
var errInUse = errors.New("a rule of iptables uses it")

// How long an ipset is tried again that a rule still matches. nf_tables lets go of what deleted rules matched some time
// after their transaction.
const (
	patience = 2 * time.Second
	pause    = 20 * time.Millisecond
)

// RemoveSets removes the ipsets, after the rules that match them. Those that others still match stay, and are told of.
func (l Left) RemoveSets() ([]string, error) {
	var out, used []string
	var errs []error
	removed := 0
	end := time.Now().Add(patience)
	for _, name := range l.Sets {
		err := l.node.deleteSet(name)
		for errors.Is(err, errInUse) && time.Now().Before(end) {
			time.Sleep(pause)
			err = l.node.deleteSet(name)
		}
		switch {
		case errors.Is(err, errInUse):
			used = append(used, name)
		case err != nil:
			errs = append(errs, fmt.Errorf("remove ipset %s: %w", name, err))
		default:
			removed++
		}
	}
	if removed > 0 {
		out = append(out, fmt.Sprintf("removed %d of kube-proxy's ipsets", removed))
	}
	if len(used) > 0 {
		out = append(out, fmt.Sprintf("kube-proxy's ipsets %s stay, because rules of iptables use them: remove those with 'kube-proxy --cleanup', and run this again", strings.Join(used, ", ")))
	}
	return out, errors.Join(errs...)
}

// setNames returns the names of kube-proxy's ipsets (1.37, pkg/proxy/ipvs/ipset.go), of both families.
func setNames() []string {
	var out []string
	for _, name := range []string{
		"LOOP-BACK", "CLUSTER-IP", "EXTERNAL-IP", "EXTERNAL-IP-LOCAL", "LOAD-BALANCER", "LOAD-BALANCER-FW", "LOAD-BALANCER-LOCAL",
		"LOAD-BALANCER-SOURCE-IP", "LOAD-BALANCER-SOURCE-CIDR", "NODE-PORT-TCP", "NODE-PORT-LOCAL-TCP", "NODE-PORT-UDP", "NODE-PORT-LOCAL-UDP",
		"NODE-PORT-SCTP-HASH", "NODE-PORT-LOCAL-SCTP-HASH", "HEALTH-CHECK-NODE-PORT", "IPVS-IPS",
	} {
		out = append(out, setName(name, false), setName(name, true))
	}
	return out
}

// setName returns the name of an ipset in a family, cut as kube-proxy cuts it.
func setName(name string, ipv6 bool) string {
	const longest = 31
	prefix := "KUBE-"
	if ipv6 {
		prefix = "KUBE-6-"
	}
	full := prefix + name
	return full[:min(longest, len(full))]
}

// nodePortSet returns the name of the ipset that has the NodePorts of a virtual server's protocol.
func nodePortSet(s Server) string {
	return setName(map[uint8]string{6: "NODE-PORT-TCP", 17: "NODE-PORT-UDP", 132: "NODE-PORT-SCTP-HASH"}[s.Protocol], s.IPv6)
}
