// SPDX-License-Identifier: Apache-2.0

package manifests

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/fsnotify/fsnotify"

	"github.com/nftproxy/nftproxy/proxier/source/sourcetest"
)

// Where nobody tells of changes, they are seen all the same.
func TestPolled(t *testing.T) {
	t.Parallel()
	for name, newWatcher := range map[string]func() (*fsnotify.Watcher, error){
		"no instance": func() (*fsnotify.Watcher, error) { return nil, syscall.EMFILE },
		"no watch": func() (*fsnotify.Watcher, error) {
			w, err := fsnotify.NewWatcher()
			if err == nil {
				err = w.Close() // so it takes no directory
			}
			return w, err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "manifests")
			must(t, os.Mkdir(dir, 0o755))
			write(t, dir, "web.yaml", service("web", "10.0.0.1"))
			r := sourcetest.New(t)
			sourcetest.Run(r, Source{Dir: dir, Warn: r.Warn, newWatcher: newWatcher}.Run)
			r.Expect("nodes []", "cidrs []", "services [default/web]", "slices []")
			_, warnings := r.Take()
			if len(warnings) != 1 || !strings.Contains(warnings[0], "looking at its files every 500ms instead") {
				t.Errorf("warnings %q, want one that says that the directory is polled", warnings)
			}
			write(t, dir, "web.yaml", service("web", "10.0.0.2"))
			r.Expect("service default/web 10.0.0.2")
			write(t, dir, "api.yaml", service("api", "10.0.0.3"))
			r.Expect("service default/api 10.0.0.3")
			must(t, os.Remove(filepath.Join(dir, "web.yaml")))
			r.Expect("delete service default/web")
			write(t, dir, "api.yaml", "kind: Nonsense\n")
			r.AwaitWarnings("api.yaml:1")

			must(t, os.Rename(dir, dir+".old"))
			r.AwaitWarnings("its last state stays until it is back")
			must(t, os.Mkdir(dir, 0o755))
			write(t, dir, "new.yaml", service("new", "10.0.0.4"))
			r.Expect("delete service default/api", "service default/new 10.0.0.4")
			if _, warnings := r.Take(); len(warnings) > 0 {
				t.Errorf("warnings %q", warnings)
			}
		})
	}
}
