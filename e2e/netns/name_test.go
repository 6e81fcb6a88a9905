// SPDX-License-Identifier: Apache-2.0

//go:build linux

package netns

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestBindBesideOthers: 'ip netns add' of somebody else, which makes the directory of names a mount, leaves no mount of ours
// that Close cannot take away. The thread has a /run of its own.
func TestBindBesideOthers(t *testing.T) {
	ip, err := exec.LookPath("ip")
	if err != nil {
		t.Skip("missing tool: ip: install it to run this test")
	}
	n := newNS(t, "a")
	err = onOwnThread(func() (restored bool, err error) { // a thread with other mounts is not used again
		if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS); err != nil {
			return true, err
		}
		if err := unix.Mount("", "/", "none", unix.MS_PRIVATE|unix.MS_REC, ""); err != nil {
			return false, err
		}
		if err := unix.Mount("run", "/run", "tmpfs", 0, ""); err != nil {
			return false, err
		}
		if err := n.Bind("ours"); err != nil {
			return false, err
		}
		if out, err := exec.Command(ip, "netns", "add", "theirs").CombinedOutput(); err != nil {
			return false, fmt.Errorf("ip netns add: %w: %s", err, out)
		}
		if err := n.Close(); err != nil {
			return false, err
		}
		mounts, err := os.ReadFile("/proc/thread-self/mountinfo")
		if got := strings.Count(string(mounts), "/ours "); got > 0 || !strings.Contains(string(mounts), "/theirs ") {
			t.Errorf("%d mounts are left of ours:\n%s", got, mounts)
		}
		return false, err
	})
	if err != nil {
		t.Fatal(err)
	}
}
