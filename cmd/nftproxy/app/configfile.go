// SPDX-License-Identifier: Apache-2.0

package app

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/fsnotify/fsnotify"
	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/util/validation/field"
	logsapi "k8s.io/component-base/logs/api/v1"
	"k8s.io/klog/v2"
)

// runWithConfig runs with a configuration file, and again when that has changed:
// adoption of the tables makes this harmless. A file that has become wrong is told of
// and changes nothing.
func (o *runOptions) runWithConfig(ctx context.Context, flags *pflag.FlagSet) error {
	file, err := watchFile(o.configFile)
	if err != nil {
		return fmt.Errorf("watch --config: %w", err)
	}
	defer file.Close()
	c, warnings, err := readConfig(o.configFile)
	if err != nil {
		return err
	}
	for {
		if err := logsFromFlags(flags, &c.Logging); err != nil {
			return err
		}
		if err := applyLogging(&c.Logging); err != nil {
			return err
		}
		for _, w := range warnings {
			klog.InfoS("The configuration file says what has no meaning here", "file", o.configFile, "what", w)
		}
		next := *o
		next.use(c)
		next.logging = c.Logging
		var changed *kubeProxyConfig
		err := runTogether(ctx, next.run, func(ctx context.Context) error {
			changed, warnings = file.next(ctx)
			return nil
		})
		if err != nil || changed == nil {
			return err
		}
		klog.InfoS("The configuration file has changed; starting again with it", "file", o.configFile)
		c = changed
	}
}

// loggingApplied is for the library's sake: it allows only once in a process.
var loggingApplied sync.Once

func applyLogging(c *logsapi.LoggingConfiguration) (err error) {
	loggingApplied.Do(func() { err = logsapi.ValidateAndApplyAsField(c, nil, field.NewPath("logging")) })
	return err
}

// logsFromFlags puts the logging flags that were given above what a file says.
func logsFromFlags(flags *pflag.FlagSet, to *logsapi.LoggingConfiguration) error {
	own := pflag.NewFlagSet("", pflag.ContinueOnError)
	logsapi.AddFlags(to, own)
	var err error
	own.VisitAll(func(f *pflag.Flag) {
		if given := flags.Lookup(f.Name); err == nil && given != nil && given.Changed {
			err = f.Value.Set(given.Value.String())
		}
	})
	return err
}

// configWatch watches a configuration file.
type configWatch struct {
	path    string
	watcher *fsnotify.Watcher
	content []byte // that is in use or was found wrong
}

// watchFile watches the file's directory: a ConfigMap's file is a symbolic link that is
// replaced.
func watchFile(path string) (*configWatch, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
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

// next waits until the file says something else that is right; nil when ctx ends.
func (w *configWatch) next(ctx context.Context) (*kubeProxyConfig, []string) {
	for {
		select {
		case <-ctx.Done():
			return nil, nil
		case <-w.watcher.Events:
		case err := <-w.watcher.Errors:
			klog.ErrorS(err, "A change of the configuration file may not be seen", "file", w.path)
		}
		content, err := os.ReadFile(w.path)
		if err != nil || bytes.Equal(content, w.content) {
			continue // it is just being replaced, or another file of the directory was
		}
		w.content = content
		c, warnings, err := parseConfig(content)
		if err == nil {
			return c, warnings
		}
		klog.ErrorS(err, "The configuration file has become wrong; the last one stays in use", "file", w.path)
	}
}
