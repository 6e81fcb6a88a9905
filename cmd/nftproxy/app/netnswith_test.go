// SPDX-License-Identifier: Apache-2.0

//go:build linux

package app

import (
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/netns/netnstest"
)

// TestNetnsWith: the network namespace that has an address is found by a process in it, or by its name; none and several are told.
func TestNetnsWith(t *testing.T) {
	root := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(root, "run/netns"), 0o700))
	// add makes a namespace that has an address, and a process in it, whose /proc/PID is the only one below root.
	add := func(address string) string {
		t.Helper()
		ns, err := netns.New("pod")
		must(t, err)
		t.Cleanup(func() { _ = ns.Close() })
		handle, err := ns.Netlink()
		must(t, err)
		defer handle.Close()
		lo, err := handle.LinkByName("lo")
		must(t, err)
		a, err := netlink.ParseAddr(address)
		must(t, err)
		must(t, handle.AddrAdd(lo, a))
		cat := exec.Command(netnstest.Tool(t, "cat"))
		input, err := cat.StdinPipe()
		must(t, err)
		must(t, ns.Do(cat.Start))
		t.Cleanup(func() { _, _ = input.Close(), cat.Wait() })
		pid := strconv.Itoa(cat.Process.Pid)
		must(t, os.MkdirAll(filepath.Join(root, "proc", pid, "ns"), 0o700))
		path := filepath.Join(root, "proc", pid, "ns/net")
		must(t, os.Symlink("/proc/"+pid+"/ns/net", path))
		return path
	}
	find := func(list ...string) (string, error) {
		var addrs []netip.Addr
		for _, a := range list {
			addrs = append(addrs, netip.MustParseAddr(a))
		}
		return netnsWith(root, addrs)
	}
	four, six := add("10.244.1.10/32"), add("fd00:10:244::6/128")
	must(t, os.Symlink(six, filepath.Join(root, "run/netns/again"))) // the same namespace by its name
	for _, tt := range []struct {
		addrs []string
		want  string
	}{{[]string{"10.244.1.10"}, four}, {[]string{"10.244.9.9", "fd00:10:244::6"}, six}} {
		if got, err := find(tt.addrs...); got != tt.want || err != nil {
			t.Errorf("%s: %q, %v; want %q", tt.addrs, got, err, tt.want)
		}
	}
	for _, a := range []string{"10.1.1.1", "fd00::1"} {
		if got, err := find(a); err == nil || !strings.Contains(err.Error(), "no network namespace here has "+a+": does the pod run on this node?") {
			t.Errorf("%s: %q, %v", a, got, err)
		}
	}
	other := add("10.244.1.10/32")
	if got, err := find("10.244.1.10"); err == nil || !strings.Contains(err.Error(), "2 network namespaces here have 10.244.1.10, among them ") || !strings.Contains(err.Error(), other) {
		t.Errorf("of two: %q, %v", got, err)
	}
	self := ""
	err := inNetns(six, func() (err error) { // a pod on the node's network has the node's address
		self, err = find("fd00:10:244::6")
		return err
	})
	if self != "" || err != nil {
		t.Errorf("its own: %q, %v", self, err)
	}
	must(t, os.MkdirAll(filepath.Join(root, "proc/1/ns"), 0o700))
	must(t, os.WriteFile(filepath.Join(root, "proc/1/ns/net"), nil, 0o600))
	if _, err := find("10.1.1.1"); err == nil || !strings.Contains(err.Error(), "and 1 cannot (it takes root, and CAP_SYS_ADMIN)") {
		t.Errorf("one that cannot be entered: %v", err)
	}
}
