// SPDX-License-Identifier: Apache-2.0

package image

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// written writes an archive of nftproxy's image for two architectures.
func written(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	img := Nftproxy("docker.io/library/nftproxy:test", "v0")
	for _, arch := range []string{"amd64", "arm64"} {
		file := filepath.Join(dir, arch)
		must(t, os.WriteFile(file, []byte("binary of "+arch), 0o600))
		img.Binaries = append(img.Binaries, Binary{Arch: arch, File: file})
	}
	out := filepath.Join(dir, "image.tar")
	must(t, Write(out, img))
	return out
}

// unpack returns the index of the only image in an archive.
func unpack(t *testing.T, file string) (v1.ImageIndex, v1.Descriptor) {
	t.Helper()
	dir := t.TempDir()
	f, err := os.Open(file)
	must(t, err)
	defer f.Close()
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		must(t, err)
		path := filepath.Join(dir, h.Name)
		must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		data, err := io.ReadAll(r)
		must(t, err)
		must(t, os.WriteFile(path, data, 0o644))
	}
	all, err := layout.ImageIndexFromPath(dir)
	must(t, err)
	m, err := all.IndexManifest()
	must(t, err)
	if len(m.Manifests) != 1 {
		t.Fatalf("%d images in the archive, want 1", len(m.Manifests))
	}
	index, err := all.ImageIndex(m.Manifests[0].Digest)
	must(t, err)
	return index, m.Manifests[0]
}

func TestWrite(t *testing.T) {
	index, d := unpack(t, written(t))
	if got := d.Annotations[containerdName]; got != "docker.io/library/nftproxy:test" {
		t.Errorf("the image's name is %q", got)
	}
	m, err := index.IndexManifest()
	must(t, err)
	var archs []string
	for _, d := range m.Manifests {
		archs = append(archs, d.Platform.Architecture)
		img, err := index.Image(d.Digest)
		must(t, err)
		checkImage(t, img, d.Platform.Architecture)
	}
	if !slices.Equal(archs, []string{"amd64", "arm64"}) {
		t.Errorf("architectures %q, want amd64 and arm64", archs)
	}
}

func checkImage(t *testing.T, img v1.Image, arch string) {
	t.Helper()
	config, err := img.ConfigFile()
	must(t, err)
	if config.OS != "linux" || config.Architecture != arch {
		t.Errorf("the config says %s/%s, want linux/%s", config.OS, config.Architecture, arch)
	}
	files := mutate.Extract(img)
	defer files.Close()
	r := tar.NewReader(files)
	h, err := r.Next()
	must(t, err)
	data, err := io.ReadAll(r)
	must(t, err)
	if h.Name != "nftproxy" || h.Mode != 0o755 || string(data) != "binary of "+arch {
		t.Errorf("%s: the image has %s, mode %o: %q", arch, h.Name, h.Mode, data)
	}
	if h, err := r.Next(); !errors.Is(err, io.EOF) {
		t.Errorf("%s: the image also has %v (%v)", arch, h, err)
	}
}

func TestWriteIsReproducible(t *testing.T) {
	first, err := os.ReadFile(written(t))
	must(t, err)
	second, err := os.ReadFile(written(t))
	must(t, err)
	if !bytes.Equal(first, second) {
		t.Error("the same binaries gave different archives")
	}
}

func TestWriteNamesMissingFile(t *testing.T) {
	img := Nftproxy("nftproxy:test", "v0")
	img.Binaries = []Binary{{Arch: "amd64", File: "no-such-file"}}
	err := Write(filepath.Join(t.TempDir(), "image.tar"), img)
	if err == nil || !strings.Contains(err.Error(), "no-such-file") {
		t.Errorf("got %v", err)
	}
}

// TestDockerfile: deploy/Dockerfile makes the same image: of one static binary that is
// built as the Makefile builds it, for the architecture that is asked for.
func TestDockerfile(t *testing.T) {
	data, err := os.ReadFile("../../deploy/Dockerfile")
	must(t, err)
	makefile, err := os.ReadFile("../../Makefile")
	must(t, err)
	text := strings.ReplaceAll(string(data), "\\\n   ", "")
	build, last, found := strings.Cut(text, "\nFROM scratch\n")
	if !found {
		t.Fatal("the last stage of deploy/Dockerfile is not FROM scratch")
	}
	const flags = "-trimpath -buildvcs=false"
	for _, want := range []string{"FROM --platform=$BUILDPLATFORM golang:1.26.8@sha256:", "CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH go build", flags, `-ldflags "-s -w -X main.version=$VERSION"`} {
		if !strings.Contains(build, want) {
			t.Errorf("the build stage of deploy/Dockerfile lacks %s", want)
		}
	}
	if !strings.Contains(string(makefile), flags+" -ldflags '-s -w -X main.version=$(VERSION)'") {
		t.Error("the Makefile builds with other flags than deploy/Dockerfile")
	}
	want := Nftproxy("", "")
	var entrypoint, cmd []string
	for line := range strings.Lines(last) {
		instruction, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch instruction {
		case "COPY":
			if rest != "--from=build /nftproxy "+want.Entrypoint {
				t.Errorf("deploy/Dockerfile copies %s", rest)
			}
		case "ENTRYPOINT":
			must(t, json.Unmarshal([]byte(rest), &entrypoint))
		case "CMD":
			must(t, json.Unmarshal([]byte(rest), &cmd))
		default:
			t.Errorf("deploy/Dockerfile: %s is not in the image that make image-tar makes", line)
		}
	}
	if !slices.Equal(entrypoint, []string{want.Entrypoint}) || !slices.Equal(cmd, want.Cmd) {
		t.Errorf("deploy/Dockerfile runs %q %q, make image-tar %q %q", entrypoint, cmd, want.Entrypoint, want.Cmd)
	}
}
