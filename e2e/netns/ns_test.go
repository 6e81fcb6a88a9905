// SPDX-License-Identifier: Apache-2.0

//go:build linux

package netns

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
)

func newNS(t *testing.T, name string) *NS {
	t.Helper()
	n, err := New(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.Close() })
	return n
}

// identity names the namespace of the calling thread.
func identity(t *testing.T) string {
	t.Helper()
	link, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		t.Error(err)
	}
	return link
}

func TestDoEntersAndComesBack(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	home := identity(t)
	n := newNS(t, "a")
	var inside string
	wrong := errors.New("wrong")
	err := n.Do(func() error {
		inside = identity(t)
		return wrong
	})
	if !errors.Is(err, wrong) {
		t.Errorf("Do = %v, want fn's error", err)
	}
	if inside == home {
		t.Error("Do ran fn in the test's own namespace")
	}
	if now := identity(t); now != home {
		t.Errorf("the caller is in %s, want %s", now, home)
	}
	// No thread that the runtime may hand out is left inside.
	tasks, err := filepath.Glob("/proc/self/task/*/ns/net")
	if err != nil || len(tasks) == 0 {
		t.Fatal("no threads", err)
	}
	for _, task := range tasks {
		if link, err := os.Readlink(task); err == nil && link == inside {
			t.Errorf("thread %s is still in the namespace", task)
		}
	}
}

func TestDoSurvivesGoexit(t *testing.T) {
	err := newNS(t, "a").Do(func() error {
		runtime.Goexit()
		return nil
	})
	if !errors.Is(err, errGoexit) {
		t.Errorf("Do = %v, want %v", err, errGoexit)
	}
}

func TestDoAfterClose(t *testing.T) {
	n := newNS(t, "a")
	if err := errors.Join(n.Close(), n.Close()); err != nil {
		t.Fatalf("Close: %v", err)
	}
	if err := <-n.Go(func() error { return nil }); err == nil {
		t.Error("Do in a closed namespace succeeded")
	}
}

func TestProcessStartedInDoIsInside(t *testing.T) {
	n := newNS(t, "a")
	var want string
	cmd := exec.Command("/proc/self/exe", "-test.run=^$")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Env = append(environWithoutMarker(), helperEnv+"=echo", marker+"=1")
	err = n.Do(func() error {
		want = identity(t)
		return cmd.Start()
	})
	if err != nil {
		t.Fatal(err)
	}
	// The child waits for the end of its input: a zombie has no namespace.
	got, err := os.Readlink(filepath.Join("/proc", strconv.Itoa(cmd.Process.Pid), "ns/net"))
	stdin.Close()
	_ = cmd.Wait()
	if err != nil || got != want {
		t.Errorf("the child is in %q (%v), want %s", got, err, want)
	}
}

func TestCloseRemovesNamespace(t *testing.T) {
	a, b := newNS(t, "a"), newNS(t, "b")
	handle, err := a.Netlink()
	if err != nil {
		t.Fatal(err)
	}
	defer handle.Close()
	pair := netlink.NewVeth(attrs("x"))
	pair.PeerName, pair.PeerNamespace = "y", netlink.NsFd(b.Fd())
	if err := handle.LinkAdd(pair); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	// The kernel takes a pair away with the namespace of either end.
	eventually(t, "the removal of namespace b", func() bool {
		_, err := handle.LinkByName("x")
		return errors.As(err, new(netlink.LinkNotFoundError))
	})
}

func TestBindKeepsName(t *testing.T) {
	n, dir := newNS(t, "a"), filepath.Join(t.TempDir(), "names")
	if err := n.bindIn(dir, "first"); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "first")
	named, err1 := os.Stat(path)
	open, err2 := os.Stat(n.Path())
	if err := errors.Join(err1, err2); err != nil || !os.SameFile(named, open) {
		t.Errorf("%s and %s are not one namespace: %v", path, n.Path(), err)
	}
	if got, want := n.EnterCommand(), "nsenter --net="+path; got != want {
		t.Errorf("EnterCommand = %s, want %s", got, want)
	}
	if err := newNS(t, "b").bindIn(dir, "first"); !errors.Is(err, os.ErrExist) {
		t.Errorf("second namespace under one name: %v, want file exists", err)
	}
	if err := n.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after Close: %v, want no %s", err, path)
	}
}

func TestEnterCommandWithoutName(t *testing.T) {
	n := newNS(t, "a")
	if got := n.EnterCommand(); !strings.Contains(got, "--net="+n.Path()) || strings.Contains(got, "--user") != InUserNamespace() {
		t.Errorf("EnterCommand = %s", got)
	}
}

func TestNextPortRepeatsLate(t *testing.T) {
	n, seen := newHandle("a", nil), map[uint16]bool{}
	for range portCount {
		p := n.NextPort()
		if seen[p] || p < 33000 || p > 60999 {
			t.Fatalf("port %d: seen before %v", p, seen[p])
		}
		seen[p] = true
	}
	if p := n.NextPort(); !seen[p] {
		t.Errorf("port %d is out of range", p)
	}
}
