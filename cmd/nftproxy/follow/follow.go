// SPDX-License-Identifier: Apache-2.0

package follow

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
	"k8s.io/klog/v2"
)

// pollEvery is how often a file is looked at whose changes nobody tells of, and pollAnyway, of which somebody does: a change
// behind a symbolic link to another directory is not among them.
const (
	pollEvery  = 2 * time.Second
	pollAnyway = time.Minute
)

// File is a file that is followed.
type File struct {
	what    string            // the file is, for messages
	path    string            //
	content []byte            // that is in use or was found wrong
	watcher *fsnotify.Watcher // nil: the file is polled
}

// Watch watches the file's directory: a ConfigMap's file is a symbolic link that is replaced. content is what is in use. Where
// no watch can be had, for want of inotify instances for instance, the file is polled.
func Watch(what, path string, content []byte) *File {
	out := &File{what: what, path: path, content: content}
	w, err := fsnotify.NewWatcher()
	if err == nil {
		if err = w.Add(filepath.Dir(path)); err == nil {
			out.watcher = w
			return out
		}
		_ = w.Close()
	}
	klog.ErrorS(err, "Nobody tells of changes of the "+what+": looking at it again and again; raise fs.inotify.max_user_instances or max_user_watches", "file", path, "every", pollEvery)
	return out
}

// Poll looks at the file from time to time. content is what is in use.
func Poll(what, path string, content []byte) *File {
	return &File{what: what, path: path, content: content}
}

// Close ends the watch.
func (w *File) Close() {
	if w.watcher != nil {
		_ = w.watcher.Close()
	}
}

// Next waits until take accepts something else that the file says, or ctx ends.
func (w *File) Next(ctx context.Context, take func(content []byte) error) {
	for {
		content, err := ReadSmall(w.path)
		// An empty file is just being replaced; and it may have been another of the directory.
		if err == nil && len(content) > 0 && !bytes.Equal(content, w.content) {
			w.content = content
			if err = take(content); err == nil {
				klog.InfoS("The "+w.what+" has changed; starting again with it", "file", w.path)
				return
			}
			klog.ErrorS(err, "The "+w.what+" has become wrong; the last one stays in use", "file", w.path)
		}
		if !w.wait(ctx) {
			return
		}
	}
}

// ReadSmall reads a file that has become no device, and that is not larger than such a file can be.
func ReadSmall(path string) ([]byte, error) {
	const most = 16 << 20
	info, err := os.Stat(path)
	if err == nil && (!info.Mode().IsRegular() || info.Size() > most) {
		err = fmt.Errorf("read %s: it is no regular file of at most %d bytes", path, most)
	}
	if err != nil {
		return nil, err
	}
	return os.ReadFile(path)
}

// writing is how long a file is left alone that somebody has begun to write.
const writing = 100 * time.Millisecond

// wait waits for a change in the directory, or until it is time to look; false if ctx ends before.
func (w *File) wait(ctx context.Context) bool {
	var events <-chan fsnotify.Event
	var errs <-chan error
	poll := time.NewTimer(pollEvery)
	defer poll.Stop()
	if w.watcher != nil {
		events, errs = w.watcher.Events, w.watcher.Errors
		poll.Reset(pollAnyway)
	}
	var written <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return false
		case <-written:
			return true
		case <-poll.C:
			return true
		case <-events:
		case err := <-errs:
			klog.ErrorS(err, "A change of the "+w.what+" may not be seen at once", "file", w.path)
		}
		if written == nil {
			written = time.After(writing)
		}
	}
}
