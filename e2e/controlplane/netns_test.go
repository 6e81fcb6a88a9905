// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"runtime"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// newNetNS makes a network namespace with loopback up and the addresses on
// it. The namespace goes when the test and all in it are gone.
func newNetNS(t *testing.T, addresses ...netip.Addr) int {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("making network namespaces needs root")
	}
	file, err := unshareNetNS()
	if errors.Is(err, unix.EPERM) {
		t.Skipf("cannot make a network namespace here: %v", err)
	}
	if err != nil {
		t.Fatalf("make network namespace: %v", err)
	}
	t.Cleanup(func() { file.Close() })
	fd := int(file.Fd())
	if err := (namespace{fd: fd}).do(func() error { return setUpLoopback(addresses) }); err != nil {
		t.Fatalf("set up loopback: %v", err)
	}
	return fd
}

// unshareNetNS opens a new namespace. Its thread enters the old one again, to
// be used for other goroutines.
func unshareNetNS() (*os.File, error) {
	runtime.LockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, err
	}
	defer home.Close()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return nil, err
	}
	file, err := os.Open("/proc/thread-self/ns/net")
	if back := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); back != nil {
		return nil, errors.Join(err, back) // still locked: the test's thread is lost
	}
	runtime.UnlockOSThread()
	return file, err
}

func setUpLoopback(addresses []netip.Addr) error {
	loopback, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	for _, address := range addresses {
		ipNet := &net.IPNet{IP: address.AsSlice(), Mask: net.CIDRMask(address.BitLen(), address.BitLen())}
		if err := netlink.AddrAdd(loopback, &netlink.Addr{IPNet: ipNet}); err != nil {
			return err
		}
	}
	return netlink.LinkSetUp(loopback)
}
