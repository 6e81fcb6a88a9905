// SPDX-License-Identifier: Apache-2.0

package app

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// netnsWith returns the path of the network namespace of this machine that has one of some addresses; empty: this process's own has.
// It is looked for among those of the processes that can be seen, and those that have a name. root is that of /proc and /run.
func netnsWith(root string, addrs []netip.Addr) (string, error) {
	if hasAddress(addrs) {
		return "", nil
	}
	var found []string
	unseen := 0
	for _, path := range namespaces(root) {
		has := false
		err := inNetns(path, func() error {
			has = hasAddress(addrs)
			return nil
		})
		switch {
		case errors.Is(err, fs.ErrNotExist): // it has ended
		case err != nil:
			unseen++
		case has:
			found = append(found, path)
		}
	}
	text := addresses(addrs)
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		const most = 4
		return "", fmt.Errorf("%d network namespaces here have %s, among them %s: choose with --netns", len(found), text, strings.Join(found[:min(most, len(found))], ", "))
	case unseen > 0:
		return "", fmt.Errorf("no network namespace that can be looked at has %s, and %d cannot (it takes root, and CAP_SYS_ADMIN): run this command as root on the pod's node, not in a container", text, unseen)
	}
	return "", fmt.Errorf("no network namespace here has %s: does the pod run on this node? In a container without the node's processes it is not seen: run this command as root on the node itself", text)
}

func addresses(addrs []netip.Addr) string {
	var list []string
	for _, a := range addrs {
		list = append(list, a.String())
	}
	return strings.Join(list, ", ")
}

// hasAddress says whether the calling thread's network namespace has one of some addresses.
func hasAddress(addrs []netip.Addr) bool {
	return slices.ContainsFunc(interfaceAddrs(), func(own netip.Addr) bool { return slices.Contains(addrs, own) })
}

// namespaces returns a path of each network namespace that there is but this process's own.
func namespaces(root string) (out []string) {
	type id struct{ dev, ino uint64 }
	seen := map[id]bool{}
	add := func(path string, wanted bool) {
		var s unix.Stat_t
		if unix.Stat(path, &s) != nil {
			return
		}
		k := id{uint64(s.Dev), s.Ino} //nolint:unconvert // it has another size on other architectures
		if wanted && !seen[k] {
			out = append(out, path)
		}
		seen[k] = true
	}
	add("/proc/thread-self/ns/net", false)
	for _, pattern := range []string{"proc/[0-9]*/ns/net", "run/netns/*", "run/docker/netns/*"} {
		paths, _ := filepath.Glob(filepath.Join(root, pattern)) // the pattern is one
		for _, path := range paths {
			if info, err := os.Stat(path); err == nil && !info.IsDir() {
				add(path, true)
			}
		}
	}
	return out
}
