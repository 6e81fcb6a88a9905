// SPDX-License-Identifier: Apache-2.0

package trust

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// File says why the content of a file may be another user's work; nil if only root and this
// user can change it, or what leads to it. It is an error, too, if the file is none of content.
func File(path string) error { return check(path, unix.S_IFREG) }

// Directory says why what a directory holds may be another user's work, as File does. The
// files in it are not looked at.
func Directory(path string) error { return check(path, unix.S_IFDIR) }

// check follows a path as the kernel does. Once a directory has been found that others cannot
// change, what it holds can be looked at and used later: it stays the same.
func check(path string, kind uint32) error {
	absolute, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	w := walk{at: "/", rest: strings.Split(absolute, "/")}
	for err = w.enter("/"); err == nil && len(w.rest) > 0; {
		err = w.step()
	}
	if err == nil && w.last.Mode&unix.S_IFMT != kind {
		err = fmt.Errorf("%s is not a %s", w.at, map[uint32]string{unix.S_IFREG: "plain file", unix.S_IFDIR: "directory"}[kind])
	}
	if err == nil && kind == unix.S_IFDIR {
		err = writable(w.at, &w.last, false)
	}
	if err != nil && w.at != absolute {
		return fmt.Errorf("%s: %w", absolute, err)
	}
	return err
}

// walk is a path on the way.
type walk struct {
	at    string // without symbolic links
	last  unix.Stat_t
	rest  []string // names that are still to be followed
	links int
}

// maxLinks is how many symbolic links the kernel follows.
const maxLinks = 40

func (w *walk) step() error {
	name := w.rest[0]
	w.rest = w.rest[1:]
	switch name {
	case "", ".":
		return nil
	case "..":
		return w.enter(filepath.Dir(w.at))
	}
	if w.last.Mode&unix.S_IFMT != unix.S_IFDIR {
		return &os.PathError{Op: "look at", Path: w.at, Err: unix.ENOTDIR}
	}
	return w.enter(filepath.Join(w.at, name))
}

// enter goes to a path whose directory is known to be good.
func (w *walk) enter(path string) error {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return &os.PathError{Op: "look at", Path: path, Err: err}
	}
	mode := st.Mode & unix.S_IFMT
	if !trusted(st.Uid) && !(mode == unix.S_IFDIR && unmapped(st.Uid)) {
		return fmt.Errorf("%s belongs to uid %d, which is neither root nor this user", path, st.Uid)
	}
	switch mode {
	case unix.S_IFLNK:
		return w.follow(path)
	case unix.S_IFDIR, unix.S_IFREG:
		if err := writable(path, &st, mode == unix.S_IFDIR); err != nil {
			return err
		}
	}
	w.at, w.last = path, st
	return nil
}

func (w *walk) follow(link string) error {
	if w.links++; w.links > maxLinks {
		return &os.PathError{Op: "look at", Path: link, Err: unix.ELOOP}
	}
	target, err := os.Readlink(link)
	if err != nil {
		return err
	}
	w.rest = slices.Concat(strings.Split(target, "/"), w.rest)
	if filepath.IsAbs(target) {
		return w.enter("/")
	}
	return nil
}

// writable says who else may write a file or, if it is a directory, make entries in it. In a
// passed directory with the sticky bit, such as /tmp, nobody can replace the entries of others.
// A mount that is read-only keeps its content whatever the modes are: a ConfigMap's volume is
// one, and its directory has the mode 0777.
func writable(path string, st *unix.Stat_t, passed bool) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(path, &fs); err != nil {
		return &os.PathError{Op: "look at", Path: path, Err: err}
	}
	if fs.Type == unix.PROC_SUPER_MAGIC {
		return fmt.Errorf("%s is not on a disk: each process has its own", path)
	}
	const others = 0o022
	sticky := passed && st.Mode&unix.S_ISVTX != 0
	if st.Mode&others == 0 || sticky || fs.Flags&unix.ST_RDONLY != 0 {
		return nil
	}
	return fmt.Errorf("%s can be written by others than its owner (its mode is %04o)", path, st.Mode&0o7777)
}

// unmapped says whether a uid stands for the users whom this user namespace does not know. That
// is how its processes see the machine's root, to whom / and /tmp belong.
func unmapped(uid uint32) bool {
	var overflow uint32
	text, err := os.ReadFile("/proc/sys/kernel/overflowuid")
	if err != nil {
		return false
	}
	if _, err = fmt.Sscan(string(text), &overflow); err != nil || uid != overflow {
		return false
	}
	ranges, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(ranges)) {
		var inside, outside, n uint64
		if _, err := fmt.Sscan(line, &inside, &outside, &n); err != nil || uint64(uid) >= inside && uint64(uid)-inside < n {
			return false
		}
	}
	return true
}
