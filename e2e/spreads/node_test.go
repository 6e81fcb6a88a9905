// SPDX-License-Identifier: Apache-2.0

//go:build linux

package spreads

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/kernel"
)

func TestMain(m *testing.M) { os.Exit(netns.Main(m.Run)) }

// node is a namespace with rules in which all addresses of clients and endpoints are the node's own.
type node struct {
	t       testing.TB
	ns      *netns.NS
	kernel  *kernel.Kernel
	desired *rules.Desired
	name    string
	udp     [2]*net.UDPConn
	tcp     [2]*net.TCPListener
	sent    uint64 // numbers datagrams
}

const backendPort = 8080

func (n *node) must(err error) {
	n.t.Helper()
	if err != nil {
		n.t.Fatal(err)
	}
}

func newNode(t testing.TB, name string) *node {
	t.Helper()
	n := &node{t: t, name: name}
	var err error
	if n.ns, err = netns.New(name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.ns.Close() })
	h, err := n.ns.Netlink()
	n.must(err)
	defer h.Close()
	lo, err := h.LinkByName("lo")
	n.must(err)
	for _, cidr := range []string{"10.0.0.0/8", "fd00::/8"} {
		_, dst, perr := net.ParseCIDR(cidr)
		n.must(perr)
		n.must(h.RouteAdd(&netlink.Route{LinkIndex: lo.Attrs().Index, Dst: dst, Type: unix.RTN_LOCAL, Table: unix.RT_TABLE_LOCAL, Scope: unix.RT_SCOPE_HOST}))
	}
	n.must(n.ns.Do(func() (err error) {
		n.kernel, err = kernel.Open()
		return err
	}))
	t.Cleanup(func() { _ = n.kernel.Close() })
	n.desired = rules.NewDesired(rules.Config{}, n.node())
	n.must(n.kernel.Apply(rules.Diff(rules.State{}, n.desired.State())))
	n.must(n.ns.SetSysctl("ipv6/ip_nonlocal_bind", "1")) // IPv6 asks whether a device has the address
	n.must(n.ns.Do(n.listen))
	return n
}

func (n *node) node() rules.Node { return rules.Node{Name: n.name} }

// listen answers for all endpoints.
func (n *node) listen() error {
	for _, f := range rules.Families {
		any := net.IP(f.Unspecified().AsSlice())
		udp, err := net.ListenUDP([...]string{"udp4", "udp6"}[f], &net.UDPAddr{IP: any, Port: backendPort})
		if err != nil {
			return err
		}
		tcp, err := net.ListenTCP([...]string{"tcp4", "tcp6"}[f], &net.TCPAddr{IP: any, Port: backendPort})
		if err != nil {
			return err
		}
		raw, err := udp.SyscallConn()
		if err != nil {
			return err
		}
		level, option := unix.IPPROTO_IP, unix.IP_PKTINFO
		if f == rules.IPv6 {
			level, option = unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO
		}
		var serr error
		if err = raw.Control(func(fd uintptr) { serr = unix.SetsockoptInt(int(fd), level, option, 1) }); err != nil || serr != nil {
			return fmt.Errorf("packet info: %w, %w", err, serr)
		}
		n.udp[f], n.tcp[f] = udp, tcp
		n.t.Cleanup(func() { _, _ = udp.Close(), tcp.Close() })
	}
	return nil
}

// update programs a service port.
func (n *node) update(sp rules.ServicePort, endpoints []rules.Endpoint) {
	n.t.Helper()
	owner := rules.Owner{ServicePortName: sp.Name, Family: sp.Family}
	n.must(n.kernel.Apply(n.desired.Update([]rules.Owned{{Owner: owner, Objects: rules.Build(sp, endpoints, rules.Config{}.WithDefaults(), n.node())}})))
}

// flow is a client's address and port.
func flow(f rules.Family, i int) netip.AddrPort {
	port := uint16(20000 + i%20000)
	if f == rules.IPv6 {
		a := netip.MustParseAddr("fd00:9::1").As16()
		binary.BigEndian.PutUint16(a[12:], uint16(i/20000))
		return netip.AddrPortFrom(netip.AddrFrom16(a), port)
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 9, byte(i / 20000), 1}), port)
}

// client is a client's address, always of the same port.
func client(f rules.Family, i int) netip.AddrPort {
	if f == rules.IPv6 {
		a := netip.MustParseAddr("fd00:8::").As16()
		binary.BigEndian.PutUint32(a[12:], uint32(i+1))
		return netip.AddrPortFrom(netip.AddrFrom16(a), 20000)
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 8, byte(i >> 8), byte(i)}), 20000)
}

// connect makes new UDP flows, TCP connections or SCTP associations to a service port, one after the other, from each of the sources, and returns the endpoints that got them.
func (n *node) connect(sp *rules.ServicePort, sources []netip.AddrPort) []netip.AddrPort {
	n.t.Helper()
	to := netip.AddrPortFrom(sp.ClusterIP, sp.Port)
	if sp.Protocol == rules.SCTP {
		return n.associate(to, sources)
	}
	out := make([]netip.AddrPort, 0, len(sources))
	n.must(n.ns.Do(func() error {
		for _, from := range sources {
			flow := n.udpFlow
			if sp.Protocol == rules.TCP {
				flow = n.tcpFlow
			}
			at, err := flow(from, to, sp.Family)
			if err != nil {
				return fmt.Errorf("from %s: %w", from, err)
			}
			out = append(out, at)
		}
		return nil
	}))
	return out
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

// udpFlow sends a datagram and returns the address that it arrived at. A machine drops packets where too many wait for a processor,
// those of all its network namespaces alike: what is lost is sent again, and goes the same way.
func (n *node) udpFlow(from, to netip.AddrPort, f rules.Family) (netip.AddrPort, error) {
	n.sent++
	for end := time.Now().Add(netns.Patience()); ; {
		if err := send(from, to, n.sent); err != nil {
			return netip.AddrPort{}, err
		}
		at, err := n.arrived(f)
		if !errors.Is(err, os.ErrDeadlineExceeded) || time.Now().After(end) {
			return at, err
		}
	}
}

// arrived returns where the datagram that was sent last arrives, within a second.
func (n *node) arrived(f rules.Family) (netip.AddrPort, error) {
	if err := n.udp[f].SetReadDeadline(time.Now().Add(time.Second)); err != nil {
		return netip.AddrPort{}, err
	}
	data, oob := make([]byte, 16), make([]byte, 128)
	for {
		size, length, _, _, err := n.udp[f].ReadMsgUDPAddrPort(data, oob)
		if err != nil {
			return netip.AddrPort{}, err
		}
		if size != 8 || binary.BigEndian.Uint64(data) != n.sent { // it was sent again before
			continue
		}
		list, err := unix.ParseSocketControlMessage(oob[:length])
		if err != nil || len(list) == 0 {
			return netip.AddrPort{}, fmt.Errorf("no packet info: %w", err)
		}
		from, to := 0, 16
		if f == rules.IPv4 {
			from, to = 8, 12
		}
		a, _ := netip.AddrFromSlice(list[0].Data[from:to])
		return netip.AddrPortFrom(a, backendPort), nil
	}
}

// send sends a datagram with a number from a socket of its own.
func send(from, to netip.AddrPort, number uint64) error {
	family := unix.AF_INET
	if from.Addr().Is6() {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err = unix.Bind(fd, sockaddr(from)); err != nil {
		return err
	}
	return unix.Sendto(fd, binary.BigEndian.AppendUint64(nil, number), 0, sockaddr(to))
}

// tcpFlow opens a connection and resets it.
func (n *node) tcpFlow(from, to netip.AddrPort, f rules.Family) (netip.AddrPort, error) {
	c, err := net.DialTCP("tcp", net.TCPAddrFromAddrPort(from), net.TCPAddrFromAddrPort(to))
	if err != nil {
		return netip.AddrPort{}, err
	}
	_ = c.SetLinger(0)
	defer c.Close()
	there, err := n.tcp[f].AcceptTCP()
	if err != nil {
		return netip.AddrPort{}, err
	}
	defer there.Close()
	_ = there.SetLinger(0)
	at := there.LocalAddr().(*net.TCPAddr).AddrPort()
	return netip.AddrPortFrom(at.Addr().Unmap(), at.Port()), nil
}

// servicePort returns a service port of a scheduler.
func servicePort(name string, s rules.Scheduler, p rules.Protocol, f rules.Family) rules.ServicePort {
	ip := netip.MustParseAddr([...]string{"10.96.0.10", "fd00:96::10"}[f])
	return rules.ServicePort{Name: rules.ServicePortName{Namespace: "default", Name: name}, Family: f, Protocol: p, ClusterIP: ip, Port: 80,
		Policies: rules.Policies{Scheduler: s}}
}

// endpoints returns endpoints with weights.
func endpoints(f rules.Family, weights ...uint32) []rules.Endpoint {
	out := make([]rules.Endpoint, len(weights))
	for i, w := range weights {
		a := netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i + 1)})
		if f == rules.IPv6 {
			a = netip.AddrFrom16([16]byte{0xfd, 0, 0, 1, 14: byte(i >> 8), 15: byte(i + 1)})
		}
		out[i] = rules.Endpoint{Addr: netip.AddrPortFrom(a, backendPort), Ready: true}
		out[i].Weight = w
	}
	return out
}
