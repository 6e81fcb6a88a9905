// SPDX-License-Identifier: Apache-2.0

//go:build linux

package netns

import (
	"errors"
	"fmt"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// waitReady waits for what the kernel does after it has answered: until then
// first packets get lost, and TCP takes a second to send them again.
func (b *builder) waitReady() {
	for _, l := range b.links {
		handle := b.handles[l.ns]
		b.poll(func() (bool, error) { return linkReady(handle, l.index) }, "wait for link %s in %s", l.name, l.ns.name)
	}
	for _, a := range b.addrs {
		handle := b.handles[a.ns]
		b.poll(func() (bool, error) { return addrReady(handle, a) }, "wait for address %s in %s", a.addr, a.ns.name)
	}
}

// poll asks until the answer is yes.
func (b *builder) poll(ready func() (bool, error), what string, args ...any) {
	for deadline := time.Now().Add(Patience()); b.err == nil; time.Sleep(time.Millisecond) {
		ok, err := ready()
		if b.failed(err, what, args...) || ok {
			return
		}
		if time.Now().After(deadline) {
			b.failed(fmt.Errorf("not ready after %v", Patience()), what, args...)
		}
	}
}

// linkReady tells whether the link watcher has seen the carrier (before, the link
// drops what is sent) and the link-local address can be used (before, the link
// resolves no neighbours for packets that it forwards).
func linkReady(handle *netlink.Handle, index int) (bool, error) {
	link, err := handle.LinkByIndex(index)
	if err != nil || link.Attrs().OperState != netlink.OperUp {
		return false, err
	}
	addrs, err := handle.AddrList(link, netlink.FAMILY_V6)
	if errors.Is(err, netlink.ErrDumpInterrupted) {
		return false, nil // addresses came while they were listed
	}
	if err != nil {
		return false, err
	}
	for _, a := range addrs {
		if a.IP.IsLinkLocalUnicast() && a.Flags&unix.IFA_F_TENTATIVE == 0 {
			return true, nil
		}
	}
	return false, nil
}

// addrReady tells whether packets to the address are taken for local. A worker of
// the kernel arranges it, even for an address without duplicate detection, after
// it has joined the group in which neighbours ask for the address.
func addrReady(handle *netlink.Handle, a nsAddr) (bool, error) {
	routes, err := handle.RouteGet(a.addr.AsSlice())
	if errors.Is(err, unix.ENETUNREACH) || errors.Is(err, unix.EHOSTUNREACH) {
		return false, nil
	}
	return err == nil && len(routes) == 1 && routes[0].Type == unix.RTN_LOCAL, err
}
