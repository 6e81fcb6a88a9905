// SPDX-License-Identifier: Apache-2.0

package conntrack

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/nfnetlink"
)

// reexecEnv tells the process inside a user namespace that it is the inner one.
const reexecEnv = "CONNTRACK_TEST_IN_USERNS"

// TestMain runs the tests inside a user namespace unless they run as root.
func TestMain(m *testing.M) {
	if os.Getuid() == 0 || os.Getenv(reexecEnv) != "" {
		os.Exit(m.Run())
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), reexecEnv+"=1")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		os.Exit(exit.ExitCode())
	}
	if err != nil { // the tests in namespaces will skip themselves
		fmt.Fprintln(os.Stderr, "conntrack tests: no user namespace:", err)
		os.Exit(m.Run())
	}
}

// open returns a connection to a new network namespace, which lives as long as it.
// The thread that opened it is gone, so every use is from another one.
func open(tb testing.TB) *Conn {
	tb.Helper()
	type result struct {
		conn *Conn
		err  error
	}
	done := make(chan result)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			done <- result{nil, fmt.Errorf("unshare: %w", err)}
			return
		}
		c, err := Open()
		done <- result{c, err}
	}()
	r := <-done
	if errors.Is(r.err, unix.EPERM) {
		tb.Skip("needs root or user namespaces (sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone):", r.err)
	}
	if r.err != nil {
		tb.Fatal(r.err)
	}
	tb.Cleanup(func() { _ = r.conn.Close() })
	return r.conn
}

const (
	msgNew      = unix.NFNL_SUBSYS_CTNETLINK << 8 // IPCTNL_MSG_CT_NEW is 0
	attrTimeout = 7
	// confirmed must be in any status that an entry is made with (IPS_CONFIRMED).
	confirmed uint32 = 1 << 3
)

// inject makes entries as if packets had made them, in the given zone if it is not 0.
func inject(tb testing.TB, c *Conn, zone uint16, flows ...Flow) {
	tb.Helper()
	for chunk := range slices.Chunk(flows, deleteBatch) {
		var requests []byte
		for _, f := range chunk {
			m := newRequest(msgNew, unix.NLM_F_CREATE|unix.NLM_F_EXCL|unix.NLM_F_ACK, familyOf(f.Orig.Dst.Addr()))
			zones := f.Zones
			if zone != 0 {
				zones = Zones{zone, zone}
			}
			both, orig, reply := zones.split()
			m.tuple(attrTupleOrig, f.Protocol, f.Orig, partsAll, orig)
			m.tuple(attrTupleReply, f.Protocol, f.Reply, partsAll, reply)
			m.U32(attrStatus, f.Status|confirmed)
			m.U32(attrTimeout, 3600)
			if both != 0 {
				m.U16(attrZone, both)
			}
			m.End()
			requests = append(requests, m.Buf...)
		}
		err := c.socket.Exchange(tb.Context(), requests, func(nfnetlink.Message) {}, func(i int, err error) {
			if err != nil {
				tb.Errorf("inject %s: %v", chunk[i], err)
			}
		})
		if err != nil {
			tb.Fatal(err)
		}
	}
}
