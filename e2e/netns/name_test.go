// SPDX-License-Identifier: Apache-2.0

//go:build linux

package netns

import (
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
		if err = unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS); err != nil {
			return true, err
		}
		for _, step := range []func() error{
			func() error { return unix.Mount("", "/", "none", unix.MS_PRIVATE|unix.MS_REC, "") },
			func() error { return unix.Mount("run", "/run", "tmpfs", 0, "") },
			func() error { return n.Bind("ours") },
			exec.Command(ip, "netns", "add", "theirs").Run,
			n.Close,
		} {
			if err = step(); err != nil {
				return false, err
			}
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
