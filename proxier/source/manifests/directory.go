// SPDX-License-Identifier: Apache-2.0

package manifests

import (
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"
)

// directory is a watched directory that may go away and come back.
type directory struct {
	path    string            // cleaned, as in the names of events
	watcher *fsnotify.Watcher // nil: the directory is polled
	watched fs.FileInfo       // nil while nothing is watched
	missing bool              // the last refresh found no directory
	look    look              // of the last poll
	warn    func(error)
}

// watchDirectory starts to watch an existing directory. Where the kernel cannot notify of its changes, for instance for want of
// inotify instances, the directory is polled, after a warning.
func watchDirectory(path string, newWatcher func() (*fsnotify.Watcher, error), warn func(error)) (*directory, error) {
	d := &directory{path: filepath.Clean(path), warn: warn}
	watcher, err := newWatcher()
	if err != nil {
		d.polled(err)
	}
	d.watcher = watcher
	if _, err := d.refresh(); err != nil {
		d.close()
		return nil, err
	}
	return d, nil
}

func (d *directory) close() {
	if d.watcher != nil {
		_ = d.watcher.Close()
		d.watcher = nil
	}
}

// polled ends the notifications and warns that the files are looked at instead.
func (d *directory) polled(err error) {
	d.close()
	d.warn(fmt.Errorf("watch manifest directory %q: %w: looking at its files every %v instead; raise fs.inotify.max_user_instances or max_user_watches", d.path, err, recheckEvery))
}

// events returns the channels of notifications; nil where the directory is polled.
func (d *directory) events() (<-chan fsnotify.Event, <-chan error) {
	if d.watcher == nil {
		return nil, nil
	}
	return d.watcher.Events, d.watcher.Errors
}

// look is what can be seen of files without reading them: a sum of names, sizes, times and inodes.
type look uint64

// poll says whether files have changed since the last poll. Where there are notifications it is always false.
func (d *directory) poll() bool {
	if d.watcher != nil {
		return false
	}
	names, err := listManifests(d.path)
	if err != nil {
		return false // refresh tells of it
	}
	sum, fresh := fnv.New64a(), false
	for _, name := range names {
		info, err := os.Stat(filepath.Join(d.path, name))
		if err != nil {
			fmt.Fprintln(sum, name, err)
			continue
		}
		var inode uint64
		if s, ok := info.Sys().(*syscall.Stat_t); ok {
			inode = s.Ino
		}
		fmt.Fprintln(sum, name, info.Size(), info.ModTime().UnixNano(), info.Mode(), inode)
		fresh = fresh || time.Since(info.ModTime()).Abs() < recheckEvery // it may be written again without a difference in what is seen
	}
	before := d.look
	d.look = look(sum.Sum64())
	return d.look != before || fresh
}

// gone says whether the directory was missing at the last refresh.
func (d *directory) gone() bool { return d.missing }

// lose says that the watch has ended: the inode that it was on is deleted or moved away.
func (d *directory) lose() { d.watched = nil }

// refresh watches the directory that is at the path now. moved says that it is another one than before. It fails once when the
// directory goes away, and not again while it stays away.
func (d *directory) refresh() (moved bool, err error) {
	info, err := listable(d.path)
	if err == nil && d.watched != nil && os.SameFile(info, d.watched) {
		return false, nil
	}
	if d.watched != nil && d.watcher != nil {
		_ = d.watcher.Remove(d.path) // fails if the watch has ended by itself, which is as good
	}
	d.watched = nil
	if err == nil && d.watcher != nil {
		err = d.watch()
	}
	if err != nil {
		if d.missing {
			return false, nil
		}
		d.missing = true
		return false, err
	}
	// If the directory was exchanged since info was taken, the next refresh sees that.
	d.watched, d.missing = info, false
	return true, nil
}

// watch fails if the directory has gone. Where it is there and cannot be watched, it is polled.
func (d *directory) watch() error {
	err := d.watcher.Add(d.path)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("watch manifest directory %q: %w", d.path, err)
	}
	d.polled(err)
	return nil
}

// listable fails if there is no directory at path.
func listable(path string) (fs.FileInfo, error) {
	info, err := os.Stat(path)
	if err == nil && !info.IsDir() {
		err = &fs.PathError{Op: "open", Path: path, Err: errors.New("not a directory")}
	}
	if err != nil {
		return nil, fmt.Errorf("read manifest directory: %w", err)
	}
	return info, nil
}

// isManifestName says whether a file of that name is read.
func isManifestName(name string) bool {
	if strings.HasPrefix(name, ".") {
		return false
	}
	switch filepath.Ext(name) {
	case ".yaml", ".yml", ".json":
		return true
	}
	return false
}

// listManifests returns the names of the files to read, sorted.
func listManifests(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("read manifest directory: %w", err)
	}
	var names []string
	for _, e := range entries {
		if isManifestName(e.Name()) && !e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// maxFileBytes is the greatest size of a file that is read: to parse it takes many times as much memory.
const maxFileBytes = 64 << 20

// readManifest reads a file. found is false if there is none, or a directory.
func readManifest(dir, name string) (data []byte, found bool, err error) {
	path := filepath.Join(dir, name)
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		if target, lerr := os.Readlink(path); lerr == nil {
			return nil, false, fmt.Errorf("a symbolic link to %s, which does not exist", target)
		}
		return nil, false, nil
	}
	switch {
	case err != nil:
		return nil, false, reason(err)
	case info.IsDir():
		return nil, false, nil
	case !info.Mode().IsRegular():
		return nil, false, errors.New("not a regular file") // reading a pipe would block
	case info.Size() > maxFileBytes:
		return nil, false, fmt.Errorf("is larger than %d MiB: split it into several files", maxFileBytes>>20)
	}
	data, err = os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, reason(err)
	}
	return data, true, nil
}

// reason drops the path from an error: the message names the file already.
func reason(err error) error {
	var pathErr *fs.PathError
	if errors.As(err, &pathErr) {
		return fmt.Errorf("cannot be read: %w", pathErr.Err)
	}
	return err
}
