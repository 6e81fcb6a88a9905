// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lock

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// socketsFile lists the netlink sockets of the calling thread's network namespace.
const socketsFile = "/proc/thread-self/net/netlink"

// inodeOf returns the inode of the socket of NETLINK_NETFILTER at a port; 0 if there is none. Anybody may take a port that
// is free, but nobody gets an inode that was another's, as the kernel counts them.
func inodeOf(port uint32) (uint64, error) {
	f, err := os.Open(socketsFile)
	if err != nil {
		return 0, fmt.Errorf("look for a netlink socket: %w", err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		fields := strings.Fields(lines.Text()) // sk Eth Pid Groups Rmem Wmem Dump Locks Drops Inode
		if len(fields) < 10 || fields[1] != strconv.Itoa(unix.NETLINK_NETFILTER) || fields[2] != strconv.FormatUint(uint64(port), 10) {
			continue
		}
		inode, err := strconv.ParseUint(fields[9], 10, 64)
		if err != nil {
			return 0, fmt.Errorf("read %s: %w", socketsFile, err)
		}
		return inode, nil
	}
	if err := lines.Err(); err != nil {
		return 0, fmt.Errorf("read %s: %w", socketsFile, err)
	}
	return 0, nil
}

// alive says whether whoever made a lock's table still has the socket that it was made over.
func (c *claim) alive() (bool, error) {
	if c.owned {
		return true, nil // else the kernel would have deleted it
	}
	if c.netlink.inode == 0 {
		return false, nil // that is none of our making
	}
	inode, err := inodeOf(c.netlink.port)
	return inode == c.netlink.inode, err
}
