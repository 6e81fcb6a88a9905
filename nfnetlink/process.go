// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nfnetlink

import (
	"bufio"
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// ProcessOf returns which process has the socket of a port, in the calling thread's network namespace, and what that calls
// itself: anything at all. It is false where /proc does not tell: for processes of another pid namespace, and of other users.
func ProcessOf(port uint32) (pid uint32, name string, ok bool) {
	inode, ok := inodeOf(port)
	if !ok {
		return 0, "", false
	}
	if p := int(port); hasSocket(p, inode) { // the first socket of a process has its pid
		return processOf(p)
	}
	list, _ := os.ReadDir("/proc")
	for _, e := range list {
		if p, err := strconv.Atoi(e.Name()); err == nil && hasSocket(p, inode) {
			return processOf(p)
		}
	}
	return 0, "", false
}

// inodeOf returns the inode of the socket of a port.
func inodeOf(port uint32) (inode string, ok bool) {
	f, err := os.Open("/proc/thread-self/net/netlink")
	if err != nil {
		return "", false
	}
	defer f.Close()
	protocol, number := strconv.Itoa(unix.NETLINK_NETFILTER), strconv.FormatUint(uint64(port), 10)
	for lines := bufio.NewScanner(f); lines.Scan(); {
		// sk Eth Pid Groups Rmem Wmem Dump Locks Drops Inode
		if w := strings.Fields(lines.Text()); len(w) == 10 && w[1] == protocol && w[2] == number {
			return w[9], true
		}
	}
	return "", false
}

// hasSocket says whether a process has the socket of an inode.
func hasSocket(pid int, inode string) bool {
	dir := filepath.Join("/proc", strconv.Itoa(pid), "fd")
	list, _ := os.ReadDir(dir)
	for _, e := range list {
		if to, err := os.Readlink(filepath.Join(dir, e.Name())); err == nil && to == "socket:["+inode+"]" {
			return true
		}
	}
	return false
}

func processOf(pid int) (uint32, string, bool) {
	id := uint32(pid) //nolint:gosec // pids are positive, and below 2^22
	name, ok := NameOf(id)
	return id, name, ok
}

// NameOf returns what a process calls itself: anything at all. The first netlink socket of a process has its pid for a port.
func NameOf(pid uint32) (name string, ok bool) {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.FormatUint(uint64(pid), 10), "comm"))
	return string(bytes.TrimSuffix(text, []byte("\n"))), err == nil
}
