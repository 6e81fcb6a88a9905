// SPDX-License-Identifier: Apache-2.0

package image

import (
	"debug/elf"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"testing"
)

const (
	// maxSize and maxCompressed bound the image of one architecture, in MB.
	maxSize, maxCompressed = 40, 16
	// tolerance is how far the README's figures may be off, as a share.
	tolerance = 0.05
)

// TestSize: the image of the program that make build has made is one static file, and as large as the README says.
func TestSize(t *testing.T) {
	const binary = "../../bin/nftproxy"
	info, err := os.Stat(binary)
	if os.IsNotExist(err) {
		if os.Getenv("NFTPROXY_REQUIRE_TOOLS") == "1" {
			t.Fatalf("missing tool: %s: run 'make build'", binary)
		}
		t.Skipf("missing tool: %s: run 'make build'", binary)
	}
	must(t, err)
	wantStatic(t, binary)
	img := Nftproxy("docker.io/library/nftproxy:test", "v0")
	img.Binaries = []Binary{{Arch: runtime.GOARCH, File: binary}}
	archive := filepath.Join(t.TempDir(), "image.tar")
	must(t, Write(archive, img))
	packed, err := os.Stat(archive)
	must(t, err)
	size, compressed := mb(info), mb(packed)
	t.Logf("%s: %.1f MB, %.1f MB compressed", runtime.GOARCH, size, compressed)
	if size > maxSize || compressed > maxCompressed {
		t.Errorf("want at most %d MB and %d MB compressed", maxSize, maxCompressed)
	}
	wantSize, wantCompressed := told(t)
	if far(size, wantSize) || far(compressed, wantCompressed) {
		t.Errorf("the README says %.1f MB and %.1f MB compressed: correct it there", wantSize, wantCompressed)
	}
}

// told returns the sizes that the README gives for this architecture.
func told(t *testing.T) (size, compressed float64) {
	t.Helper()
	readme, err := os.ReadFile("../../README.md")
	must(t, err)
	m := regexp.MustCompile(`([0-9.]+) MB on ` + runtime.GOARCH + ` \(([0-9.]+) MB compressed\)`).FindSubmatch(readme)
	if m == nil {
		t.Skipf("the README has no size for %s", runtime.GOARCH)
	}
	size, err = strconv.ParseFloat(string(m[1]), 64)
	must(t, err)
	compressed, err = strconv.ParseFloat(string(m[2]), 64)
	must(t, err)
	return size, compressed
}

func mb(info os.FileInfo) float64 { return float64(info.Size()) / 1e6 }

func far(got, want float64) bool { return got < want*(1-tolerance) || got > want*(1+tolerance) }

// wantStatic checks that a program needs no dynamic linker: the image has none.
func wantStatic(t *testing.T, file string) {
	t.Helper()
	f, err := elf.Open(file)
	must(t, err)
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			t.Errorf("%s is not static", file)
		}
	}
}
