// SPDX-License-Identifier: Apache-2.0

package app

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/spf13/pflag"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/component-base/logs"
	logsapi "k8s.io/component-base/logs/api/v1"
	"k8s.io/klog/v2"
)

// runWithConfig runs with a configuration file, and again when that has changed:
// adoption of the tables makes this harmless. A file that has become wrong is told of
// and changes nothing. o are the options without the file, current those with it.
func (o *runOptions) runWithConfig(ctx context.Context, flags *pflag.FlagSet, file *configWatch, current *runOptions) error {
	o.competitors = competitors{} // who ran at the start may be gone when it starts again
	for {
		var next *runOptions
		err := runTogether(ctx, current.run, func(ctx context.Context) error {
			file.next(ctx, func(content []byte) (err error) {
				if next, err = o.resolved(flags, content); err == nil {
					err = next.withinReach()
				}
				return err
			})
			return nil
		})
		if err != nil || next == nil {
			return err
		}
		klog.InfoS("The configuration file has changed; starting again with it", "file", o.configFile)
		next.logMeaningless()
		changeLogging(&current.config.Logging, &next.config.Logging)
		current = next
	}
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

// configWatch watches a configuration file.
type configWatch struct {
	path    string
	watcher *fsnotify.Watcher
	content []byte // that is in use or was found wrong
}

// watchFile watches the file's directory: a ConfigMap's file is a symbolic link that is
// replaced. content is what is in use.
func watchFile(path string, content []byte) (*configWatch, error) {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, err
	}
	if err := w.Add(filepath.Dir(path)); err != nil {
		_ = w.Close()
		return nil, err
	}
	return &configWatch{path, w, content}, nil
}

// Close ends the watch.
func (w *configWatch) Close() { _ = w.watcher.Close() }

// next waits until take accepts something else that the file says, or ctx ends.
func (w *configWatch) next(ctx context.Context, take func(content []byte) error) {
	for {
		content, err := os.ReadFile(w.path)
		// An empty file is just being replaced; and it may have been another of the directory.
		if err == nil && len(content) > 0 && !bytes.Equal(content, w.content) {
			w.content = content
			if err = take(content); err == nil {
				return
			}
			klog.ErrorS(err, "The configuration file has become wrong; the last one stays in use", "file", w.path)
		}
		if !w.wait(ctx) {
			return
		}
	}
}

// writing is how long a file is left alone that somebody has begun to write.
const writing = 100 * time.Millisecond

// wait waits for a change in the directory; false if ctx ends before.
func (w *configWatch) wait(ctx context.Context) bool {
	var written <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return false
		case <-written:
			return true
		case <-w.watcher.Events:
		case err := <-w.watcher.Errors:
			klog.ErrorS(err, "A change of the configuration file may not be seen", "file", w.path)
		}
		if written == nil {
			written = time.After(writing)
		}
	}
}
