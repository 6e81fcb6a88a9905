// SPDX-License-Identifier: Apache-2.0

package source

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/fsnotify/fsnotify"
)

// directory is a watched directory that may go away and come back.
type directory struct {
	path    string // cleaned, as in the names of events
	watcher *fsnotify.Watcher
	watched fs.FileInfo // nil while nothing is watched
	missing bool        // the last refresh found no directory
}

// watchDirectory starts to watch an existing directory.
func watchDirectory(path string) (*directory, error) {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, fmt.Errorf("watch manifest directory %q: %w", path, err)
	}
	d := &directory{path: filepath.Clean(path), watcher: watcher}
	if _, err := d.refresh(); err != nil {
		d.close()
		return nil, err
	}
	return d, nil
}

func (d *directory) close() { _ = d.watcher.Close() }

// gone tells whether the directory was missing at the last refresh.
func (d *directory) gone() bool { return d.missing }

// lose says that the watch has ended: the inode that it was on is deleted or moved away.
func (d *directory) lose() { d.watched = nil }

// refresh makes sure that what is at the path now is what is watched. It tells whether that is another directory
// than before. It fails once when the directory goes away, and not again while it stays away.
func (d *directory) refresh() (moved bool, err error) {
	info, err := listable(d.path)
	if err == nil && d.watched != nil && os.SameFile(info, d.watched) {
		return false, nil
	}
	if d.watched != nil {
		_ = d.watcher.Remove(d.path) // fails if the watch has ended by itself, which is as good
		d.watched = nil
	}
	if err == nil {
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

func (d *directory) watch() error {
	if err := d.watcher.Add(d.path); err != nil {
		return fmt.Errorf("watch manifest directory %q: %w", d.path, err)
	}
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

// isManifestName tells whether a file of that name is read.
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
