// SPDX-License-Identifier: Apache-2.0

package lock

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/nftproxy/nftproxy/printable"
)

// Process is a process that holds a lock or waits for it, as it says itself.
type Process struct {
	// PID is its ID in its own PID namespace, whose inode is PIDNamespace.
	PID          int    `json:"pid"`
	PIDNamespace uint64 `json:"pidNamespace,omitempty"`
	// Container is the ID of its container, or so much of it that one finds it; "" outside of containers.
	Container string `json:"container,omitempty"`
	Version   string `json:"version"`
	// Since is when it got the lock, or began to wait for it.
	Since time.Time `json:"since"`
	// Ready says whether it does its work, or could do so at once if it had the lock.
	Ready bool `json:"ready"`
	// Socket is the path at which commands ask it while it holds the lock, as its own files have it; empty: there is none.
	Socket string `json:"socket,omitempty"`
}

// String names the process.
func (p Process) String() string {
	text := fmt.Sprintf("process %d", p.PID)
	if p.Container != "" {
		text += " of container " + printable.Word(p.Container)
	}
	return text
}

// Describe names the process, and says what is known of it.
func (p Process) Describe() string {
	return fmt.Sprintf("%s, version %s, since %s", p, printable.Word(p.Version), p.Since.Local().Format(time.RFC3339))
}

// How much of a text there is room for in a record.
const (
	longestVersion   = 60
	longestContainer = 12
)

// record is what the lock's table says.
type record struct {
	Process
	socket string // the random part of its name
	// netlink is the socket that holds a lock without an owner.
	netlink netlinkSocket
}

// netlinkSocket is one of NETLINK_NETFILTER in this network namespace.
type netlinkSocket struct {
	port  uint32
	inode uint64
}

// text returns it as a comment, of few enough bytes, that nft prints and a reader understands.
func (r *record) text() string {
	text := fmt.Sprintf("version=%s pid=%d", field(r.Version, longestVersion), r.PID)
	if r.Container != "" {
		text += " container=" + field(r.Container, longestContainer)
	}
	return text + fmt.Sprintf(" since=%s socket=%s netlink=%d/%d", r.Since.UTC().Format(time.RFC3339), r.socket, r.netlink.port, r.netlink.inode)
}

// unfit is what a field of a record cannot have.
var unfit = regexp.MustCompile(`[^A-Za-z0-9._+/:-]+`)

func field(text string, most int) string {
	text = unfit.ReplaceAllString(text, "_")
	if text == "" {
		return "_"
	}
	return text[:min(len(text), most)]
}

// parseRecord reads what text wrote; of other texts what there is of it.
func parseRecord(text string) (r record) {
	for one := range strings.FieldsSeq(text) {
		key, value, _ := strings.Cut(one, "=")
		switch key {
		case "version":
			r.Version = field(value, longestVersion)
		case "pid":
			r.PID, _ = strconv.Atoi(value)
		case "container":
			r.Container = field(value, longestContainer)
		case "since":
			r.Since, _ = time.Parse(time.RFC3339, value)
		case "socket":
			if socketName.MatchString(value) {
				r.socket = value
			}
		case "netlink":
			port, inode, _ := strings.Cut(value, "/")
			p, _ := strconv.ParseUint(port, 10, 32)
			r.netlink.port = uint32(p)
			r.netlink.inode, _ = strconv.ParseUint(inode, 10, 64)
		}
	}
	return r
}

// socketName is the random part of a socket's name.
var socketName = regexp.MustCompile(`^[0-9a-f]{32}$`)

// containerID is the ID of a container as runtimes write it into the names of cgroups and of directories.
var containerID = regexp.MustCompile(`(?m)(?:^|[/:.-])([0-9a-f]{64})(?:[/.]|$)`)

// findContainer finds the ID of a container in the text of /proc/PID/cgroup, or else in that of /proc/PID/mountinfo: where a
// container has a cgroup namespace, the former does not tell, but the files that runtimes mount over those of the image come
// from its directory, or from that of its pod's sandbox.
func findContainer(cgroup, mounts string) string {
	if m := containerID.FindStringSubmatch(strings.TrimSpace(cgroup)); m != nil {
		return m[1][:longestContainer]
	}
	for line := range strings.Lines(mounts) {
		fields := strings.Fields(line)
		if len(fields) < 5 || fields[4] != "/etc/hostname" && fields[4] != "/etc/resolv.conf" {
			continue
		}
		if m := containerID.FindStringSubmatch(fields[3]); m != nil {
			return m[1][:longestContainer]
		}
	}
	return ""
}

// self returns what this process says of itself.
func self(version string) Process {
	cgroup, _ := os.ReadFile("/proc/self/cgroup")
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	return Process{PID: os.Getpid(), PIDNamespace: pidNamespace(), Container: findContainer(string(cgroup), string(mounts)), Version: version}
}

// pidNamespace returns the inode of this process's PID namespace; 0 if it cannot be seen.
func pidNamespace() uint64 {
	link, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return 0
	}
	n, _ := strconv.ParseUint(strings.TrimSuffix(strings.TrimPrefix(link, "pid:["), "]"), 10, 64)
	return n
}
