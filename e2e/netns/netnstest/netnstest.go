// SPDX-License-Identifier: Apache-2.0

//go:build linux

package netnstest

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/nftproxy/nftproxy/e2e/netns"
)

// NewCluster makes a cluster that is closed when the test ends.
func NewCluster(t testing.TB, cfg netns.Config) *netns.Cluster {
	t.Helper()
	c, err := netns.NewCluster(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// AsOrdinaryUser runs the whole test binary once more as uid 65534, which has to
// make a user namespace, and checks that it passes and that the named tests did not
// get skipped. It skips the test unless it runs as the machine's root.
func AsOrdinaryUser(t *testing.T, mustPass ...string) {
	t.Helper()
	const nobody = 65534
	switch {
	case netns.InUserNamespace():
		t.Skip("already running as an ordinary user, in a user namespace")
	case os.Getuid() != 0:
		t.Skip("only root can become another user")
	}
	limit := time.Duration(0) // as long as the test itself may take
	if deadline, ok := t.Deadline(); ok {
		limit = time.Until(deadline) * 9 / 10 // so that it says itself what took so long
	}
	cmd := exec.Command("/proc/self/exe", "-test.v", "-test.timeout="+limit.String())
	cmd.Env = append(os.Environ(), "TMPDIR="+sharedTempDir(t))
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("as uid %d: %v\n%s", nobody, err, out)
	}
	for _, name := range mustPass {
		if !bytes.Contains(out, []byte("--- PASS: "+name+" ")) {
			t.Errorf("as uid %d: %s did not pass in\n%s", nobody, name, out)
		}
	}
}

// sharedTempDir returns a directory into which every user may write, as /tmp.
func sharedTempDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := errors.Join(os.Chmod(filepath.Dir(dir), 0o755), os.Chmod(dir, 0o777|os.ModeSticky)); err != nil {
		t.Fatal(err)
	}
	return dir
}
