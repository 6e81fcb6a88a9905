// SPDX-License-Identifier: Apache-2.0

//go:build linux

package trust

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestFile: what others can change, or what leads there, is told from what they cannot. The
// directories are in one with the sticky bit, as tests' usually are.
func TestFile(t *testing.T) {
	for _, tt := range []struct {
		name       string
		alter      func(dir string) error // of DIR/a/b/file, to which DIR/link and DIR/a/up lead
		path       string
		root       bool   // takes root
		file, tree string // what is said of it as a file, and of its directory
	}{
		{name: "nobody else's", path: "a/b/file"},
		{name: "links", path: "link"},
		{name: "a link with dots", path: "a/up"},
		{name: "dots", path: "a/./b/../b//file"},
		{name: "written by a group", path: "a/b/file", alter: chmod("a/b/file", 0o620), file: "a/b/file can be written by others than its owner (its mode is 0620)"},
		{name: "written by all", path: "link", alter: chmod("a/b/file", 0o602), file: "a/b/file can be written by others"},
		{name: "its directory", path: "a/b/file", alter: chmod("a/b", 0o777), file: "a/b can be written by others", tree: "a/b can be written by others"},
		{name: "a directory above", path: "a/b/file", alter: chmod("a", 0o770), file: "a can be written by others", tree: "a can be written by others"},
		{name: "a directory above with the sticky bit", path: "a/b/file", alter: chmod("a", 0o777|os.ModeSticky)},
		{name: "its directory with the sticky bit", path: "a/b/file", alter: chmod("a/b", 0o777|os.ModeSticky), tree: "a/b can be written by others"},
		{name: "a directory on the way of a link", path: "link", alter: chmod("a", 0o777), file: "a can be written by others", tree: ""},
		{name: "another user's file", path: "a/b/file", root: true, alter: chown("a/b/file"), file: "a/b/file belongs to uid 65534"},
		{name: "another user's directory", path: "a/b/file", root: true, alter: chown("a"), file: "a belongs to uid 65534", tree: "a belongs to uid 65534"},
		{name: "another user's link", path: "link", root: true, alter: chown("link"), file: "link belongs to uid 65534"},
		{name: "another user's file beside the sticky bit", path: "a/b/file", root: true, file: "a/b belongs to uid 65534", tree: "a/b belongs to uid 65534",
			alter: func(dir string) error {
				_ = chown("a/b")(dir)
				return chmod("a", 0o777|os.ModeSticky)(dir)
			}},
		{name: "no file", path: "a/b/none", file: "no such file or directory"},
		{name: "a file as a directory", path: "a/b/file/x", file: "not a directory", tree: "file is not a directory"},
		{name: "a directory as a file", path: "a", file: "is not a plain file"},
		{name: "a pipe", path: "a/b/file", file: "is not a plain file", alter: func(dir string) error {
			_ = os.Remove(filepath.Join(dir, "a/b/file"))
			return unix.Mkfifo(filepath.Join(dir, "a/b/file"), 0o600)
		}},
		{name: "a loop", path: "loop", file: "too many levels", alter: func(dir string) error { return os.Symlink("loop", filepath.Join(dir, "loop")) }},
		{name: "a file of this process", path: "process", file: "each process has its own", alter: func(dir string) error { return os.Symlink("/proc/self/status", filepath.Join(dir, "process")) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.root && (os.Getuid() != 0 || unmapped(nobody)) {
				t.Skip("only root can make files of others")
			}
			dir := t.TempDir()
			must(t, os.MkdirAll(filepath.Join(dir, "a/b"), 0o755))
			must(t, os.WriteFile(filepath.Join(dir, "a/b/file"), nil, 0o644))
			must(t, os.Symlink("a/b/file", filepath.Join(dir, "link")))
			must(t, os.Symlink("../a/b/file", filepath.Join(dir, "a/up")))
			if tt.alter != nil {
				must(t, tt.alter(dir))
			}
			path := filepath.Join(dir, tt.path)
			if strings.Contains(tt.path, "//") {
				path = dir + "/" + tt.path
			}
			expect(t, File(path), tt.file)
			expect(t, Directory(filepath.Dir(path)), tt.tree)
		})
	}
}

func expect(t *testing.T, err error, want string) {
	t.Helper()
	if want == "" {
		must(t, err)
	} else if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%v, want %q", err, want)
	}
}

func chmod(name string, mode os.FileMode) func(dir string) error {
	return func(dir string) error { return os.Chmod(filepath.Join(dir, name), mode) }
}

func chown(name string) func(dir string) error {
	return func(dir string) error { return os.Lchown(filepath.Join(dir, name), nobody, nobody) }
}

// TestReadOnlyMount: nobody can write there, whatever the modes say, as in a ConfigMap's volume.
func TestReadOnlyMount(t *testing.T) {
	dir := t.TempDir()
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // for ever: the thread has mounts of its own
		result <- func() error {
			if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS); err != nil {
				return err
			}
			data := filepath.Join(dir, "..data")
			err := errors.Join(unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""), unix.Mount("none", dir, "tmpfs", 0, "mode=777"),
				os.Mkdir(data, 0o755), os.WriteFile(filepath.Join(data, "file"), nil, 0o644), os.Symlink("..data/file", filepath.Join(dir, "file")))
			if err != nil {
				return err
			}
			if err := File(filepath.Join(dir, "file")); err == nil {
				return errors.New("a directory that all may write is believed")
			}
			if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""); err != nil {
				return err
			}
			return errors.Join(File(filepath.Join(dir, "file")), Directory(dir))
		}()
	}()
	must(t, <-result)
}
