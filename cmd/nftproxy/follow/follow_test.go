// SPDX-License-Identifier: Apache-2.0

package follow

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestConfigChanges follows a file as a ConfigMap's volume replaces it.
func TestConfigChanges(t *testing.T) {
	dir := t.TempDir()
	put := func(version, text string) {
		t.Helper()
		must(t, os.MkdirAll(filepath.Join(dir, version), 0o755))
		must(t, os.WriteFile(filepath.Join(dir, version, "config.conf"), []byte(text), 0o600))
		must(t, os.Symlink(version, filepath.Join(dir, "new")))
		must(t, os.Rename(filepath.Join(dir, "new"), filepath.Join(dir, "..data")))
	}
	path := filepath.Join(dir, "config.conf")
	put("v1", "first")
	must(t, os.Symlink("..data/config.conf", path))
	w := Watch("configuration file", path, []byte("first"))
	defer w.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var seen []string
	refused := make(chan struct{}, 1)
	changed := func() string {
		seen = nil
		w.Next(ctx, func(content []byte) error {
			seen = append(seen, string(content))
			if strings.HasPrefix(string(content), "wrong") {
				refused <- struct{}{}
				return errors.New("it is wrong")
			}
			return nil
		})
		return strings.Join(seen, " ")
	}
	put("v2", "second") // before anybody looks
	if got := changed(); got != "second" {
		t.Errorf("got %q, want the second file", got)
	}
	result := make(chan string)
	go func() { result <- changed() }()
	put("v3", "second")
	put("v4", "") // it is just being written
	put("v5", "wrong")
	<-refused
	put("v6", "third")
	if got := <-result; got != "wrong third" {
		t.Errorf("got %q, want the wrong and the third file", got)
	}
	cancel()
	if got := changed(); got != "" {
		t.Errorf("%q was told of after the end", got)
	}
}

// TestConfigEmptied: a file that somebody empties to write it again is not taken over.
func TestConfigEmptied(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.conf")
	must(t, os.WriteFile(path, nil, 0o600))
	w := Watch("configuration file", path, []byte("first"))
	defer w.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w.Next(ctx, func(content []byte) error { t.Errorf("%q was taken", content); return nil })
}

// TestFilePolled: a file whose changes nobody tells of is looked at.
func TestFilePolled(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(path, []byte("second"), 0o600))
	w := Watch("file", filepath.Join(path, "no", "directory"), []byte("first")) // so there is nothing to be notified of
	if w.watcher != nil {
		t.Fatal("a file is watched as a directory")
	}
	w.path = path
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	got := ""
	take := func(content []byte) error { got = string(content); return nil }
	if w.Next(ctx, take); got != "second" {
		t.Errorf("took %q, want the second content", got)
	}
	must(t, os.WriteFile(path, nil, 0o600))
	go func() { _ = os.WriteFile(path, []byte("third"), 0o600) }()
	if w.Next(ctx, take); got != "third" { // an empty file is being written
		t.Errorf("took %q, want the third content", got)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
