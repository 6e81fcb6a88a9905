// SPDX-License-Identifier: Apache-2.0

package manifests

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// TestReaderLetsGo: what was applied is not kept in memory, and read again when a definition wins once more.
func TestReaderLetsGo(t *testing.T) {
	dir := t.TempDir()
	var warned []error
	r := newReader(dir, "", func(err error) { warned = append(warned, err) })
	write := func(file, ip string) {
		t.Helper()
		text := fmt.Sprintf("apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {clusterIP: %s, ports: [{port: 80}]}\n", ip)
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// expect loads all and wants a change to a ClusterIP, or none.
	expect := func(what, ip string) {
		t.Helper()
		if err := r.loadAll(); err != nil {
			t.Fatal(err)
		}
		got := ""
		for _, c := range r.changes() {
			if s, ok := c.object.(*corev1.Service); ok {
				got = s.Spec.ClusterIP
			} else {
				got = "gone"
			}
		}
		if got != ip {
			t.Errorf("%s: the Service became %q, want %q", what, got, ip)
		}
		if len(r.catalog.files["b.yaml"]) == 0 || len(r.catalog.applied) == 0 {
			return
		}
		if claims := r.catalog.claims[key{kindService, "default", "web"}]; r.catalog.files[claims[0].file][key{kindService, "default", "web"}].value != nil {
			t.Errorf("%s: the object that was applied is kept", what)
		}
	}
	remove := func(file string) {
		t.Helper()
		if err := os.Remove(filepath.Join(dir, file)); err != nil {
			t.Fatal(err)
		}
	}
	write("b.yaml", "10.96.0.1")
	expect("the first file", "10.96.0.1")
	expect("nothing new", "")
	write("a.yaml", "10.96.0.2")
	expect("another file wins", "10.96.0.2")
	remove("a.yaml")
	expect("the first file wins again", "10.96.0.1")
	write("a.yaml", "10.96.0.3")
	expect("another file wins again", "10.96.0.3")
	remove("a.yaml")
	write("b.yaml", "no address")
	expect("the first file wins but is broken", "")
	write("b.yaml", "10.96.0.4")
	expect("the first file is mended", "10.96.0.4")
	remove("b.yaml")
	expect("no file", "gone")
	if len(warned) == 0 {
		t.Error("the broken file was not told of")
	}
}

// TestReaderRenamed: the Service of a file is not gone while that gets another name: of the old name the kernel tells first.
func TestReaderRenamed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := newReader(dir, "", func(err error) { t.Error(err) })
	write(t, dir, "old.yaml", service("web", "10.0.0.1"))
	must(t, r.loadAll())
	r.changes()
	must(t, os.Rename(filepath.Join(dir, "old.yaml"), filepath.Join(dir, "new.yaml")))
	for _, name := range []string{"old.yaml", "new.yaml"} {
		must(t, r.load([]string{name}))
		if got := r.changes(); len(got) != 0 {
			t.Errorf("told of %s: changes %v", name, got)
		}
	}
	must(t, os.Remove(filepath.Join(dir, "new.yaml")))
	must(t, r.load([]string{"new.yaml"}))
	if got := r.changes(); len(got) != 1 || got[0].object != nil {
		t.Errorf("without the file: changes %v", got)
	}
}
