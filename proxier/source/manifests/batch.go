// SPDX-License-Identifier: Apache-2.0

package manifests

import (
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
)

// batch collects what to read again. Its zero value is empty.
type batch struct {
	first time.Time // of the first change
	names map[string]struct{}
	all   bool
}

// add notes a change in dir.
func (b *batch) add(dir *directory, event fsnotify.Event) {
	name := filepath.Base(event.Name)
	switch {
	case event.Name == dir.path:
		if event.Has(fsnotify.Remove) || event.Has(fsnotify.Rename) {
			dir.lose()
		}
		b.addAll()
	case isManifestName(name):
		b.start()
		if b.names == nil {
			b.names = map[string]struct{}{}
		}
		b.names[name] = struct{}{}
	case strings.HasPrefix(name, ".") && !strings.HasPrefix(name, ".."):
		// Swap and lock files of editors.
	default:
		// Manifests may be symbolic links that lead through this one, as through the ..data link of a ConfigMap volume.
		b.addAll()
	}
}

// addAll notes that every file may have changed.
func (b *batch) addAll() {
	b.start()
	b.all = true
}

func (b *batch) start() {
	if b.first.IsZero() {
		b.first = time.Now()
	}
}

// delay is how long to wait for more from now on.
func (b *batch) delay() time.Duration {
	if b.first.IsZero() {
		return settleTime
	}
	return max(0, min(settleTime, maxSettleTime-time.Since(b.first)))
}

func (b *batch) sorted() []string {
	return slices.Sorted(maps.Keys(b.names))
}
