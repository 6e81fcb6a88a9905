// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"cmp"
	"fmt"
	"net/netip"
)

// Frontend is where clients connect to: an address, a protocol and a port. A NodePort's
// address is the unspecified one of its family (0.0.0.0, ::). IPv4 addresses are not in
// their IPv6-mapped form.
type Frontend struct {
	Addr     netip.Addr
	Protocol Protocol
	Port     uint16
}

// String returns 10.96.0.10:80/tcp, or NodePort 30080/tcp.
func (f Frontend) String() string {
	if f.IsNodePort() {
		return fmt.Sprintf("NodePort %d/%s", f.Port, f.Protocol)
	}
	return fmt.Sprintf("%s/%s", f.At(), f.Protocol)
}

// At returns the address and the port.
func (f Frontend) At() netip.AddrPort { return netip.AddrPortFrom(f.Addr, f.Port) }

// FrontendAt returns the frontend at an address and port.
func FrontendAt(at netip.AddrPort, p Protocol) Frontend { return Frontend{at.Addr(), p, at.Port()} }

// NodePort returns a NodePort of a family.
func NodePort(f Family, p Protocol, port uint16) Frontend {
	return Frontend{f.Unspecified(), p, port}
}

// IsNodePort says whether the frontend is a NodePort.
func (f Frontend) IsNodePort() bool { return f.Addr.IsUnspecified() }

// NodePort returns the NodePort of the frontend's family, protocol and number.
func (f Frontend) NodePort() Frontend { return NodePort(FamilyOf(f.Addr), f.Protocol, f.Port) }

// Compare orders frontends by address, port and protocol.
func (f Frontend) Compare(o Frontend) int {
	return cmp.Or(f.Addr.Compare(o.Addr), cmp.Compare(f.Port, o.Port), cmp.Compare(f.Protocol, o.Protocol))
}

// Key returns the key that the frontend has in sets of frontends.
func (f Frontend) Key() Key {
	if f.IsNodePort() {
		return Key{Protocol: f.Protocol, Port: f.Port}
	}
	return Key{Addr: f.Addr, Protocol: f.Protocol, Port: f.Port}
}

// Frontend returns the frontend whose key it is, in a set of the family's table.
func (k Key) Frontend(f Family) Frontend {
	if !k.Addr.IsValid() {
		return NodePort(f, k.Protocol, k.Port)
	}
	return Frontend{k.Addr, k.Protocol, k.Port}
}
