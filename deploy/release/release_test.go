// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
)

// checkout is the repository's root.
const checkout = "../.."

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(path...))
	must(t, err)
	return string(text)
}

// standIn is a small program that is packed in nftproxy's place. It links a module of nftproxy's, and knows help and completion.
const standIn = `package main

import (
	"fmt"
	"os"

	"golang.org/x/time/rate"
)

var _ = rate.Inf

func main() {
	fmt.Printf("Said for %q.\n\nUsage:\n  nftproxy COMMAND\n\nOther:\n  completion  Generate it\n  help        Help\n\nServe:\n  run         Run\\\n\n.dots\n", os.Args[1:])
}
`

// builds makes OS_ARCH/nftproxy for some targets: the stand-in for this machine, and the same bytes for the others.
func builds(t *testing.T, others ...target) string {
	t.Helper()
	dir := t.TempDir()
	source, program := filepath.Join(dir, "main.go"), filepath.Join(dir, "nftproxy")
	must(t, os.WriteFile(source, []byte(standIn), 0o600))
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-o", program, source)
	cmd.Dir, cmd.Env = checkout, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build the stand-in: %v\n%s", err, out)
	}
	for _, to := range append(others, target{runtime.GOOS, runtime.GOARCH}) {
		must(t, os.MkdirAll(filepath.Join(dir, "all", to.String()), 0o755))
		must(t, os.WriteFile(filepath.Join(dir, "all", to.String(), "nftproxy"), []byte(read(t, program)), 0o755))
	}
	return filepath.Join(dir, "all")
}

// packed packs a release and returns it.
func packed(t *testing.T, binaries, registry string) release {
	t.Helper()
	r := release{version: "v1.2.3-rc.4", commit: strings.Repeat("ab", 20), time: time.Unix(1_700_000_000, 0).UTC(), root: checkout,
		binaries: binaries, out: filepath.Join(t.TempDir(), "out"), registry: registry}
	must(t, r.check())
	must(t, r.pack(t.Context()))
	return r
}

func arm() target { return target{"linux", "arm"} }

// TestReproducible: at another time, with another umask, time zone and folder, the bytes are the same.
func TestReproducible(t *testing.T) {
	binaries := builds(t, arm(), target{"darwin", "arm64"})
	first := packed(t, binaries, "registry.test/some")
	defer syscall.Umask(syscall.Umask(0o077))
	t.Setenv("TZ", "Asia/Kathmandu")
	t.Setenv("HOSTNAME", "elsewhere")
	for now := time.Now().Unix(); time.Now().Unix() == now; { // archives count whole seconds
		runtime.Gosched()
	}
	second := packed(t, builds(t, arm(), target{"darwin", "arm64"}), "registry.test/some")
	files, err := os.ReadDir(first.out)
	must(t, err)
	if len(files) < 15 {
		t.Errorf("%d files only: %v", len(files), files)
	}
	for _, f := range files {
		if a, b := read(t, first.out, f.Name()), read(t, second.out, f.Name()); a != b {
			t.Errorf("%s differs: %d bytes, then %d", f.Name(), len(a), len(b))
		}
	}
	again, err := os.ReadDir(second.out)
	must(t, err)
	if len(again) != len(files) {
		t.Errorf("%d files, then %d", len(files), len(again))
	}
}

// TestPack looks at what is packed, and publishes it to a registry in this process.
func TestPack(t *testing.T) {
	server := httptest.NewServer(registry.New(registry.WithReferrersSupport(true), registry.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	r := packed(t, builds(t, arm()), strings.TrimPrefix(server.URL, "http://")+"/some")
	t.Run("archive", r.testArchive)
	t.Run("bills", r.testBills)
	t.Run("deb", r.testDeb)
	t.Run("rpm", r.testRPM)
	t.Run("chart", r.testChart)
	t.Run("manifests", r.testManifests)
	t.Run("krew", r.testKrew)
	t.Run("sums", func(t *testing.T) { wantSums(t, r.out) })
	t.Run("push", r.testPush)
}

func (r release) testArchive(t *testing.T) {
	files := untar(t, []byte(read(t, r.file(arm(), ".tar.gz"))), r.time)
	want := []string{licenceFile, noticesFile, zshCompletion, bashCompletion, fishCompletion, manPage, "nftproxy"}
	slices.Sort(want)
	var names []string
	for _, f := range files {
		names = append(names, f.name)
	}
	if !slices.Equal(names, want) {
		t.Errorf("it holds %q, want %q", names, want)
	}
	manual := text(files, manPage)
	for _, part := range []string{`.SH NFTPROXY RUN`, `\&.dots`, `Run\e`, `"nftproxy v1.2.3-rc.4"`, " 2023-11-14 "} {
		if !strings.Contains(manual, part) {
			t.Errorf("the manual lacks %q:\n%s", part, manual)
		}
	}
	if got := text(files, zshCompletion); !strings.Contains(got, `["completion" "zsh"]`) {
		t.Errorf("zsh's completion is %q", got)
	}
}

// digest is the image's.
func (r release) digest(t *testing.T) string {
	t.Helper()
	digest, err := digestOf(filepath.Join(r.out, imageFile))
	must(t, err)
	return digest
}

func (r release) testChart(t *testing.T) {
	files := untar(t, []byte(read(t, r.out, "nftproxy-1.2.3-rc.4.tgz")), r.time)
	wantChanged(t, files, "Chart.yaml", "version: 1.2.3-rc.4", "appVersion: v1.2.3-rc.4")
	wantChanged(t, files, "values.yaml", "  repository: "+r.registry+"/nftproxy", "  # Empty it to use a tag.", "  digest: "+r.digest(t))
	wantChanged(t, files, "templates/daemonset.yaml")
	wantChanged(t, files, "values.schema.json")
}

func (r release) testManifests(t *testing.T) {
	got := read(t, r.out, "nftproxy.yaml")
	if !strings.Contains(got, "image: "+r.registry+"/nftproxy@"+r.digest(t)+" # v1.2.3-rc.4\n") || strings.Contains(got, "image: nftproxy:") {
		t.Error("the image is not the release's")
	}
	if strings.Count(got, `app.kubernetes.io/version: "v1.2.3-rc.4"`) != strings.Count(got, "app.kubernetes.io/version") {
		t.Error("a label names another version")
	}
}

func (r release) testKrew(t *testing.T) {
	sum, err := sumOf(r.file(arm(), ".tar.gz"))
	must(t, err)
	for _, part := range []string{"sha256: " + sum, "/releases/download/v1.2.3-rc.4/nftproxy_v1.2.3-rc.4_linux_armv7.tar.gz", "arch: arm\n"} {
		if got := read(t, r.out, "krew.yaml"); !strings.Contains(got, part) {
			t.Errorf("it lacks %q:\n%s", part, got)
		}
	}
}

// wantChanged compares a file of the chart with the checkout's: these lines are new, and no others.
func wantChanged(t *testing.T, files []entry, name string, lines ...string) {
	t.Helper()
	before := strings.Split(read(t, checkout, chartFolder, name), "\n")
	var changed []string
	for line := range strings.SplitSeq(text(files, "nftproxy/"+name), "\n") {
		if !slices.Contains(before, line) {
			changed = append(changed, line)
		}
	}
	if !slices.Equal(changed, lines) {
		t.Errorf("%s has these lines of its own: %q, want %q", name, changed, lines)
	}
}

// wantSums wants the checksums of all files but their own.
func wantSums(t *testing.T, dir string) {
	t.Helper()
	files, err := os.ReadDir(dir)
	must(t, err)
	want := len(files) - 1
	for line := range strings.Lines(read(t, dir, sums)) {
		sum, name, _ := strings.Cut(strings.TrimSpace(line), "  ")
		data := sha256.Sum256([]byte(read(t, dir, name)))
		if hex.EncodeToString(data[:]) != sum {
			t.Errorf("%s has another sum", name)
		}
		want--
	}
	if want != 0 {
		t.Errorf("%d files have no sum", want)
	}
}

// untar returns the files of a compressed tar file, which must be sorted, root's, and of one time.
func untar(t *testing.T, data []byte, at time.Time) []entry {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(data))
	must(t, err)
	var out []entry
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			if !slices.IsSortedFunc(out, func(a, b entry) int { return strings.Compare(a.name, b.name) }) {
				t.Error("the archive is not sorted")
			}
			return out
		}
		must(t, err)
		if h.Uid != 0 || h.Gid != 0 || !h.ModTime.Equal(at) {
			t.Errorf("%s belongs to %d:%d and is of %s", h.Name, h.Uid, h.Gid, h.ModTime)
		}
		data, err := io.ReadAll(r)
		must(t, err)
		out = append(out, entry{h.Name, h.Mode, data})
	}
}

func text(files []entry, name string) string {
	for _, f := range files {
		if f.name == name {
			return string(f.data)
		}
	}
	return ""
}

func TestFlags(t *testing.T) {
	for args, want := range map[string]string{
		"":                                      "no command",
		"publish":                               "unknown command",
		"pack":                                  "give the commit",
		"pack -version v1 -commit a -time 1":    `version "v1" is none`,
		"pack -version 1.0.0 -commit a -time 1": `version "1.0.0" is none`,
		"pack -version v1.0.0;x -commit a -time 1":                        "is none",
		"pack -version v1.0.0 -commit a -time 1 -registry https://x.test": "registry",
		"pack -version v1.0.0-rc.1 -commit a -time 1 -binaries nothing":   "build them first",
		"push -from nothing": "nftproxy-image.tar",
	} {
		if err := run(t.Context(), strings.Fields(args)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", args, err, want)
		}
	}
}
