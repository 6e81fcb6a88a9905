// SPDX-License-Identifier: Apache-2.0

//go:build linux

package trust

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// fake is a process in a /proc that a test makes.
type fake struct {
	comm, args, uids, caps string
	links                  map[string]string
}

// like returns a process of this user, and of this program, with something changed.
func like(change func(*fake)) fake {
	uid := fmt.Sprint(os.Getuid())
	f := fake{comm: "nftproxy", args: "nftproxy\x00run\x00", uids: strings.Join([]string{uid, uid, uid, uid}, "\t"), caps: "0",
		links: map[string]string{"ns/net": "net:[1]", "ns/mnt": "mnt:[1]", "ns/user": "user:[1]", "exe": "/proc/self/exe", "root": "/", "cwd": "/srv"}}
	if change != nil {
		change(&f)
	}
	return f
}

func (f fake) write(t *testing.T, root, pid string) {
	t.Helper()
	dir := filepath.Join(root, "proc", pid)
	must(t, os.MkdirAll(filepath.Join(dir, "ns"), 0o755))
	for name, text := range map[string]string{"comm": f.comm + "\n", "cmdline": f.args, "status": fmt.Sprintf("Name:\tx\nUid:\t%s\nCapPrm:\t%s\n", f.uids, f.caps)} {
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
	}
	for name, to := range f.links {
		must(t, os.Symlink(to, filepath.Join(dir, name)))
	}
}

// TestFind tells which processes count, and whose command line may be believed.
func TestFind(t *testing.T) {
	const stranger = "4711\t4711\t4711\t4711"
	other := filepath.Join(t.TempDir(), "nftproxy")
	must(t, os.WriteFile(other, nil, 0o755))
	for _, tt := range []struct {
		name   string
		change func(*fake)
		found  bool
		doubt  string
		note   string
	}{
		{name: "ours", found: true},
		{name: "root's", found: true, change: func(f *fake) { f.uids = "0\t0\t0\t0" }},
		{name: "a stranger's", change: func(f *fake) { f.uids = stranger }, note: "process 7 is named nftproxy and is left out: it is of uid 4711, which may not change this node's rules"},
		{name: "a stranger's behind a setuid bit", change: func(f *fake) { f.uids = "4711\t0\t0\t0" }, note: "it is of uid 4711"},
		{name: "one who can become a stranger", change: func(f *fake) { f.uids = "0\t0\t4711\t0" }, note: "it is of uid 4711"},
		{name: "a stranger with the capability", found: true, change: func(f *fake) { f.uids, f.caps = stranger, "0000000000001000" },
			doubt: "it is of uid 4711, which is neither root's nor this user's"},
		{name: "a stranger with the capability in a user namespace of its own", note: "it is of uid 4711",
			change: func(f *fake) { f.uids, f.caps, f.links["ns/user"] = stranger, "000001ffffffffff", "user:[2]" }},
		{name: "another name", change: func(f *fake) { f.comm = "proxy" }},
		{name: "another node's", change: func(f *fake) { f.links["ns/net"] = "net:[2]" }},
		{name: "a stranger's of another node", change: func(f *fake) { f.links["ns/net"], f.uids = "net:[2]", stranger }},
		{name: "a zombie", change: func(f *fake) { delete(f.links, "ns/net") }},
		{name: "one in another mount namespace", found: true, change: func(f *fake) { f.links["ns/mnt"] = "mnt:[2]" }},
		{name: "a container's", found: true, change: func(f *fake) { f.links["ns/mnt"], f.links["root"] = "mnt:[2]", filepath.Dir(other) }, doubt: "it has other files"},
		{name: "one in another root directory", found: true, change: func(f *fake) { f.links["root"] = filepath.Dir(other) }, doubt: "it has other files"},
		{name: "another executable", found: true, change: func(f *fake) { f.links["exe"] = other }, doubt: "its executable is another file"},
		{name: "an executable that cannot be seen", found: true, change: func(f *fake) { f.links["exe"] = other + "/x" }, doubt: "its executable cannot be seen (not a directory)"},
		{name: "no status", change: func(f *fake) { f.uids = "" }, note: "its status has no Uid"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root := t.TempDir()
			like(nil).write(t, root, "self")
			like(tt.change).write(t, root, "7")
			found, notes := Processes{Root: root}.Find("nftproxy")
			if len(found) == 1 != tt.found || tt.found && (found[0].ID != "7" || !slices.Equal(found[0].Args, []string{"run"}) || found[0].Directory != "/srv") {
				t.Fatalf("found %+v, want it: %v", found, tt.found)
			}
			if tt.found && (!strings.Contains(found[0].Doubt, tt.doubt) || (found[0].Doubt == "") != (tt.doubt == "")) {
				t.Errorf("doubt %q, want %q", found[0].Doubt, tt.doubt)
			}
			if told := strings.Join(notes, "\n"); !strings.Contains(told, tt.note) || (told == "") != (tt.note == "") {
				t.Errorf("notes %q, want %q", told, tt.note)
			}
		})
	}
}

// TestShares: the files of a process in another mount namespace are looked at as it sees them.
func TestShares(t *testing.T) {
	root, theirs := t.TempDir(), t.TempDir()
	same, other := filepath.Join(t.TempDir(), "same"), filepath.Join(t.TempDir(), "other")
	for _, file := range []string{same, other} {
		must(t, os.WriteFile(file, nil, 0o600))
		must(t, os.MkdirAll(filepath.Dir(theirs+file), 0o700))
	}
	must(t, os.Link(same, theirs+same))
	must(t, os.WriteFile(theirs+other, nil, 0o600))
	must(t, os.Symlink(same, filepath.Join(filepath.Dir(same), "link"))) // to the same there and here
	must(t, os.Symlink(same, theirs+filepath.Join(filepath.Dir(same), "link")))
	must(t, os.Symlink(other, filepath.Join(filepath.Dir(same), "far")))
	must(t, os.Symlink(other, theirs+filepath.Join(filepath.Dir(same), "far")))
	like(func(f *fake) { f.links["root"] = theirs }).write(t, root, "self")
	like(func(f *fake) { f.links["root"], f.links["ns/mnt"] = theirs, "mnt:[2]" }).write(t, root, "7")
	found, notes := Processes{Root: root}.Find("nftproxy")
	if len(found) != 1 || found[0].Doubt != "" {
		t.Fatalf("found %+v, %q", found, notes)
	}
	for path, want := range map[string]string{same: "", filepath.Join(filepath.Dir(same), "link"): "", other: "it is another file there",
		filepath.Join(filepath.Dir(same), "far"): "it is another file there", same + "no": "no such file or directory"} {
		if err := found[0].Shares(path); err == nil != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
	must(t, os.Remove(filepath.Join(root, "proc/7/exe")))
	must(t, os.Symlink(other, filepath.Join(root, "proc/7/exe")))
	if err := found[0].Shares(same); err == nil || !strings.Contains(err.Error(), "another program") {
		t.Errorf("another program: %v", err)
	}
}
