// SPDX-License-Identifier: Apache-2.0

package image

import (
	"archive/tar"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/mutate"
)

// TestFiles: files, links and folders are in the image beside its binary.
func TestFiles(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(file, []byte("text"), 0o600))
	img, err := Image{Name: "a:b", Entrypoint: "/run", Binaries: []Binary{{Arch: "amd64", File: file}}, Files: []File{
		{Name: "/bin/sh", Link: "bash"}, {Name: "/tmp", Dir: true, Mode: 0o1777}, {Name: "/etc/x", Data: []byte("data"), Mode: 0o644}, {Name: "/etc/y", Source: file},
	}}.manifest(Binary{Arch: "amd64", File: file})
	must(t, err)
	files := mutate.Extract(img)
	defer files.Close()
	got := map[string]string{}
	for r := tar.NewReader(files); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		must(t, err)
		data, err := io.ReadAll(r)
		must(t, err)
		got[h.Name] = string(h.Typeflag) + " " + h.FileInfo().Mode().String() + " " + h.Linkname + string(data)
	}
	for name, want := range map[string]string{"run": "0 -rwxr-xr-x text", "bin/sh": "2 Lrwxr-xr-x bash", "tmp": "5 dtrwxrwxrwx ", "etc/x": "0 -rw-r--r-- data", "etc/y": "0 -rwxr-xr-x text"} {
		if got[name] != want {
			t.Errorf("%s is %q, want %q; all: %q", name, got[name], want, got)
		}
	}
}

// TestAliases: containerd finds an image under each of its names.
func TestAliases(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(file, []byte("text"), 0o600))
	out := filepath.Join(t.TempDir(), "image.tar")
	must(t, Write(out, Image{Name: "example.com/a:1", Aliases: []string{"example.com/b:2"}, Entrypoint: "/run", Binaries: []Binary{{Arch: "amd64", File: file}}}))
	text, err := os.ReadFile(out)
	must(t, err)
	for _, name := range []string{"example.com/a:1", "example.com/b:2"} {
		if !strings.Contains(string(text), `"`+containerdName+`":"`+name+`"`) {
			t.Errorf("the archive lacks %s", name)
		}
	}
}

// TestPrograms: a program comes with the libraries that it loads, each once: it runs where there is nothing else.
func TestPrograms(t *testing.T) {
	files, err := Programs("ls", "cat")
	must(t, err)
	dir := t.TempDir()
	for i, f := range files {
		if slices.ContainsFunc(files[:i], func(o File) bool { return o.Name == f.Name }) {
			t.Errorf("%s is there twice", f.Name)
		}
		data, err := os.ReadFile(f.Source)
		must(t, err)
		must(t, os.MkdirAll(filepath.Join(dir, filepath.Dir(f.Name)), 0o755))
		must(t, os.WriteFile(filepath.Join(dir, f.Name), data, 0o755))
	}
	if os.Geteuid() != 0 {
		t.Skip("chroot needs root")
	}
	cmd := exec.Command("/usr/sbin/chroot", dir, "/usr/bin/cat", "/usr/bin/cat")
	if out, err := cmd.Output(); err != nil || len(out) == 0 {
		t.Errorf("cat does not run: %v", err)
	}
	if _, err := Programs("no-such-program"); err == nil {
		t.Error("a missing program is no error")
	}
}

// TestRegistry: the tag leads to the index, and that to manifests, configurations and layers that are all there.
func TestRegistry(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(file, []byte("text"), 0o600))
	files, err := Image{Name: "a:b", Entrypoint: "/run", Binaries: []Binary{{Arch: "amd64", File: file}}}.Registry("/var/registry", "pause", "testing")
	must(t, err)
	var all string
	names := map[string]bool{}
	for _, f := range files {
		names[f.Name] = true
		if strings.Contains(f.Name, "/manifests/") {
			all += string(f.Data)
		}
	}
	blob := func(kind, hex string) string {
		return "/var/registry/pause/" + kind + "/sha256/" + hex[:2] + "/" + hex + "/data"
	}
	digests := strings.Split(all, "sha256:")[1:]
	if len(digests) < 4 { // index, manifest, configuration, layer
		t.Fatalf("%d digests: %q", len(digests), all)
	}
	for _, d := range digests {
		if hex := d[:64]; !names[blob("manifests", hex)] && !names[blob("blobs", hex)] {
			t.Errorf("%s is not there: %v", hex, names)
		}
	}
}
