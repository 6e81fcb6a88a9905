// SPDX-License-Identifier: Apache-2.0

package app

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/spf13/pflag"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/component-base/logs"
	logsapi "k8s.io/component-base/logs/api/v1"
	"k8s.io/klog/v2"
)

// runFollowing runs, and again when a file has changed that says how: the configuration file, the kubeconfig, or a certificate or key
// that this names. Adoption of the tables makes this harmless. A file that has become wrong is told of and changes nothing. o are
// the options without the configuration file, current those with it, whose content is given.
func (o *runOptions) runFollowing(ctx context.Context, flags *pflag.FlagSet, content []byte, current *runOptions) error {
	o.competitors = competitors{} // who ran at the start may be gone when it starts again
	for {
		next, err := o.runOnce(ctx, flags, &content, current)
		if err != nil || next == nil {
			return err
		}
		next.logMeaningless()
		changeLogging(&current.kubeProxy.Logging, &next.kubeProxy.Logging)
		current = next
	}
}

// runOnce runs until a file has changed, and returns the options that count then, nil if ctx ended. content is that of the
// configuration file that was taken last.
func (o *runOptions) runOnce(ctx context.Context, flags *pflag.FlagSet, content *[]byte, current *runOptions) (*runOptions, error) {
	var mu sync.Mutex
	var changed *runOptions
	take := func(text []byte) error {
		mu.Lock()
		defer mu.Unlock()
		next, err := o.resolved(flags, text)
		if err == nil {
			err = next.withinReach()
		}
		if err != nil {
			return err
		}
		if err = next.connect(); err != nil {
			if bytes.Equal(text, *content) || next.kubeProxy.ClientConnection != current.kubeProxy.ClientConnection {
				return err
			}
			next.api, next.apiFiles, next.source.apiServers = current.api, current.apiFiles, current.source.apiServers // the configuration file is right all the same
		}
		changed, *content = next, text
		return nil
	}
	run := []func(context.Context) error{current.run}
	follow := func(w *fileWatch, take func([]byte) error) {
		run = append(run, func(ctx context.Context) error {
			defer w.Close()
			w.next(ctx, take)
			return nil
		})
	}
	if o.kubeProxy.File != "" {
		follow(watchFile("configuration file", o.kubeProxy.File, *content), take)
	}
	for _, f := range current.apiFiles {
		w := &fileWatch{what: f.what, path: f.path, content: f.content}
		if f.what == kubeconfigFile { // the others are replaced seldom: they are looked at from time to time
			w = watchFile(f.what, f.path, f.content)
		}
		follow(w, func([]byte) error {
			mu.Lock()
			text := *content
			mu.Unlock()
			return take(text)
		})
	}
	err := runTogether(ctx, run...)
	return changed, err
}

// changeLogging changes the verbosity while goroutines log. For more there is no safe
// way, and a configuration that is not in effect is not kept.
func changeLogging(from, to *logsapi.LoggingConfiguration) {
	verbosity := to.Verbosity
	if verbosity != from.Verbosity {
		if _, err := logs.GlogSetter(strconv.FormatUint(uint64(verbosity), 10)); err != nil {
			klog.ErrorS(err, "The verbosity stays as it is")
		}
	}
	if to.Verbosity = from.Verbosity; !apiequality.Semantic.DeepEqual(from, to) {
		klog.InfoS("Of the changed logging configuration the verbosity counts at once, the rest when nftproxy is started again")
	}
	*to = *from.DeepCopy()
	to.Verbosity = verbosity
}

// pollEvery is how often a file is looked at whose changes nobody tells of, and pollAnyway, of which somebody does: a change
// behind a symbolic link to another directory is not among them.
const (
	pollEvery  = 2 * time.Second
	pollAnyway = time.Minute
)

// fileWatch watches a file.
type fileWatch struct {
	what    string            // the file is, for messages
	path    string            //
	content []byte            // that is in use or was found wrong
	watcher *fsnotify.Watcher // nil: the file is polled
}

// watchFile watches the file's directory: a ConfigMap's file is a symbolic link that is replaced. content is what is in use. Where
// no watch can be had, for want of inotify instances for instance, the file is polled.
func watchFile(what, path string, content []byte) *fileWatch {
	out := &fileWatch{what: what, path: path, content: content}
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

// Close ends the watch.
func (w *fileWatch) Close() {
	if w.watcher != nil {
		_ = w.watcher.Close()
	}
}

// next waits until take accepts something else that the file says, or ctx ends.
func (w *fileWatch) next(ctx context.Context, take func(content []byte) error) {
	for {
		content, err := readSmall(w.path)
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

// readSmall reads a file that has become no device, and that is not larger than such a file can be.
func readSmall(path string) ([]byte, error) {
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
func (w *fileWatch) wait(ctx context.Context) bool {
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
