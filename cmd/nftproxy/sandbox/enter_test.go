// SPDX-License-Identifier: Apache-2.0

//go:build linux

package sandbox

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/netns/netnstest"
)

// TestUnprivileged runs everything in a user namespace.
func TestUnprivileged(t *testing.T) {
	netnstest.AsOrdinaryUser(t, "TestFiles", "TestPlugin", "TestNoLandlock")
}

// needLandlock skips a test on a kernel that has none.
func needLandlock(t *testing.T) {
	t.Helper()
	if _, err := ABI(); err != nil {
		t.Skip("no Landlock: ", err)
	}
}

// setFilter puts a seccomp filter in force for all threads.
func setFilter(program *unix.SockFprog) error {
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(program)))
	if errno != 0 {
		return errno
	}
	return nil
}

// world is directories of which only some are to be read.
type world struct{ own, linked, other string }

func newWorld(t *testing.T) world {
	t.Helper()
	dir := t.TempDir()
	w := world{filepath.Join(dir, "own/services"), filepath.Join(dir, "linked"), filepath.Join(dir, "other")}
	for _, d := range []string{w.own, w.linked, w.other} {
		must(t, os.MkdirAll(d, 0o755))
		must(t, os.WriteFile(filepath.Join(d, "file"), []byte("x"), 0o644))
	}
	must(t, os.Symlink(filepath.Join(w.linked, "file"), filepath.Join(w.own, "link")))
	return w
}

// TestFiles: what a process may still do with files, also with those that are replaced.
func TestFiles(t *testing.T) {
	needLandlock(t)
	w := newWorld(t)
	c := order{Config: Config{Read: []string{w.own}, Write: []string{"/proc/sys/net", "/proc/self/oom_score_adj", "/sys/not/there"}}}
	const denied = "permission denied"
	var want []string
	add := func(do, result string) { c.Do, want = append(c.Do, do), append(want, result) }
	add("read "+w.own+"/file", "")
	add("read "+w.own+"/link", "")
	add("list "+w.own, "")
	add("read "+w.other+"/file", denied)
	add("list "+w.other, denied)
	add("list /root", denied)
	add("wait", "")
	add("read "+w.own+"/file", "")
	add("read "+w.own+"/link", "")
	add("read "+w.own+"/new", "")
	add("read /etc/passwd", "")
	add("read /proc/sys/kernel/osrelease", "")
	add("read /proc/self/maps", "")
	add("write /dev/null=x", "")
	add("write /proc/self/oom_score_adj=500", "")
	add("write /proc/sys/net/ipv4/ip_forward=1", "")
	add("write /proc/sys/kernel/core_pattern=core", denied)
	add("write "+w.own+"/file=y", denied)
	add("write "+w.own+"/made=y", denied)
	add("exec /bin/true", denied)
	child := start(t, c)
	child.await(func() { // the directory, a file and what a link leads to are replaced
		must(t, os.Rename(w.own, w.own+".old"))
		must(t, os.Mkdir(w.own, 0o755))
		must(t, os.Rename(w.own+".old/link", w.own+"/link"))
		for _, file := range []string{w.own + "/file", w.own + "/new", w.linked + "/next"} {
			must(t, os.WriteFile(file, []byte("y"), 0o644))
		}
		must(t, os.Rename(w.linked+"/next", w.linked+"/file"))
	})
	r := child.end()
	for i, result := range r.Done {
		if result == "" && want[i] == "" || want[i] != "" && strings.Contains(result, want[i]) {
			continue
		}
		t.Errorf("%s: %q, want %q", c.Do[i], result, want[i])
	}
	if !r.State.Confined() || len(r.Notes) > 0 {
		t.Errorf("%s, notes %q", r.State, r.Notes)
	}
}

// TestCapabilities: what is kept by whom, on all threads.
func TestCapabilities(t *testing.T) {
	if os.Getuid() != 0 || netns.InUserNamespace() {
		t.Skip("only root has capabilities of which some can be taken away")
	}
	setpriv := netnstest.Tool(t, "setpriv")
	w := newWorld(t)
	closed := filepath.Join(w.other, "file")
	must(t, os.Chown(closed, 65534, 65534))
	must(t, os.Chmod(closed, 0o600))
	for _, tt := range []struct {
		name                string
		read                string
		setpriv             []string
		permitted, bounding Capabilities
		notes               string
	}{
		{name: "root", permitted: needed, bounding: needed},
		{name: "a container", setpriv: []string{"--bounding-set=-all,+net_admin", "--inh-caps=-all"}, permitted: 1 << netAdmin, bounding: 1 << netAdmin},
		{name: "another user with the capability", setpriv: []string{"--reuid=65534", "--inh-caps=-all,+net_admin", "--ambient-caps=-all,+net_admin", "--bounding-set=-all,+net_admin,+sys_admin"},
			permitted: 1 << netAdmin, bounding: 1<<netAdmin | 1<<21},
		{name: "another user's file", read: closed, permitted: needed | readAll, bounding: needed | readAll, notes: "CAP_DAC_READ_SEARCH: " + closed + " is closed to this user without it"},
		{name: "another user's file in a container", read: closed, setpriv: []string{"--bounding-set=-all,+net_admin", "--inh-caps=-all"}, permitted: 1 << netAdmin, bounding: 1 << netAdmin},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var through []string
			if tt.setpriv != nil {
				through = append([]string{setpriv}, tt.setpriv...)
			}
			r := start(t, order{Config: Config{Read: []string{tt.read}}}, through...).end()
			notes := strings.Join(slices.DeleteFunc(r.Notes, func(note string) bool { return strings.HasPrefix(note, "Landlock: this kernel has none") }), "; ")
			if r.State.Permitted != tt.permitted || r.State.Bounding != tt.bounding || !r.State.NoNewPrivileges || notes != tt.notes {
				t.Errorf("%s, bounding %s, notes %q; want %s, %s, %q", r.State, r.State.Bounding, notes, tt.permitted, tt.bounding, tt.notes)
			}
		})
	}
}

// TestPlugin: a credential plugin runs, with what it had before.
func TestPlugin(t *testing.T) {
	r := start(t, order{Config: Config{Plugin: "/bin/true"}, Do: []string{"exec /bin/true", "write " + t.TempDir() + "/cache=x"}}).end()
	if strings.Join(r.Done, "") != "" {
		t.Errorf("a plugin cannot do what it needs: %q", r.Done)
	}
	if r.State.NoNewPrivileges || r.State.Landlock || r.State.Permitted&^needed != 0 || r.State.Bounding&^needed == 0 ||
		len(r.Notes) != 1 || !strings.HasPrefix(r.Notes[0], `the bounding set, no_new_privs, Landlock: the credential plugin "/bin/true"`) {
		t.Errorf("%s, notes %q", r.State, r.Notes)
	}
}

// TestNoLandlock: without it one note says so, and the rest is done.
func TestNoLandlock(t *testing.T) {
	r := start(t, order{NoLandlock: true, Do: []string{"read /proc/self/maps", "exec /bin/true"}}).end()
	if r.State.Landlock || !r.State.NoNewPrivileges || r.State.Permitted&^needed != 0 || strings.Join(r.Done, "") != "" ||
		len(r.Notes) != 1 || !strings.HasPrefix(r.Notes[0], "Landlock: this kernel has none") {
		t.Errorf("%s, notes %q, done %q", r.State, r.Notes, r.Done)
	}
}

// TestOOMScore: the score can be lowered later, without the capability.
func TestOOMScore(t *testing.T) {
	if err := os.WriteFile("/proc/self/oom_score_adj", []byte("-1"), 0); errors.Is(err, os.ErrPermission) {
		t.Skip("the score cannot be lowered here")
	}
	must(t, os.WriteFile("/proc/self/oom_score_adj", []byte("0"), 0))
	const score = "/proc/self/oom_score_adj"
	r := start(t, order{Config: Config{Write: []string{score}}, Do: []string{"write " + score + "=0", "write " + score + "=-900", "write " + score + "=100", "write " + score + "=-999"}}).end()
	if strings.Join(r.Done, "") != "" || r.State.Permitted&^needed != 0 {
		t.Errorf("%q, with %s", r.Done, r.State)
	}
}

// TestNames: a set is named so that people know it.
func TestNames(t *testing.T) {
	for set, want := range map[Capabilities]string{
		0: "none", needed: "NET_BIND_SERVICE NET_ADMIN", 1<<41 - 1: "all", 1<<41 - 1 - 1<<24: "all but SYS_RESOURCE", 1<<netAdmin | 1<<40: "NET_ADMIN CHECKPOINT_RESTORE",
	} {
		if got := set.String(); got != want {
			t.Errorf("%#x is %q, want %q", uint64(set), got, want)
		}
	}
}
