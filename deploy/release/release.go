// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

const (
	homepage = "https://github.com/nftproxy/nftproxy"
	summary  = "A service proxy for Kubernetes nodes, in place of kube-proxy"
	licence  = "Apache-2.0"
	// modulePath is the program's own module.
	modulePath = "github.com/nftproxy/nftproxy"
)

// release is what pack makes a release of.
type release struct {
	version  string // with the v
	commit   string
	time     time.Time // of the commit
	root     string    // the checkout
	binaries string    // OS_ARCH/nftproxy below this
	out      string
	registry string // such as ghcr.io/nftproxy
}

// target is a system and an architecture, in Go's words.
type target struct{ os, arch string }

func (t target) String() string { return t.os + "_" + t.arch }

// label is what files are called: armv7 says more than arm.
func (t target) label() string {
	if t.arch == "arm" {
		return t.os + "_armv7"
	}
	return t.String()
}

// check finds faults of the flags.
func (r release) check() error {
	if !regexp.MustCompile(`^v(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z]+([.-][0-9A-Za-z]+)*)?$`).MatchString(r.version) {
		return fmt.Errorf("version %q is none such as v0.1.0 or v0.1.0-rc.1: give -version", r.version)
	}
	if r.registry == "" || strings.HasSuffix(r.registry, "/") || strings.Contains(r.registry, "://") {
		return fmt.Errorf("registry %q is none such as ghcr.io/nftproxy", r.registry)
	}
	return nil
}

// number is the version without the v, as charts and packages have it.
func (r release) number() string { return strings.TrimPrefix(r.version, "v") }

// image is the image's whole name.
func (r release) image() string { return r.registry + "/nftproxy:" + r.version }

func (r release) binary(t target) string { return filepath.Join(r.binaries, t.String(), "nftproxy") }

// file is the path of a file of the release, which is called after the version and the target.
func (r release) file(t target, suffix string) string {
	return filepath.Join(r.out, fmt.Sprintf("nftproxy_%s_%s%s", r.version, t.label(), suffix))
}

// targets lists what binaries there are, sorted.
func (r release) targets() ([]target, error) {
	paths, err := filepath.Glob(filepath.Join(r.binaries, "*_*", "nftproxy"))
	if err != nil || len(paths) == 0 {
		return nil, fmt.Errorf("no OS_ARCH/nftproxy below %s: build them first (`make release` does)", r.binaries)
	}
	var out []target
	for _, p := range paths {
		system, arch, _ := strings.Cut(filepath.Base(filepath.Dir(p)), "_")
		out = append(out, target{system, arch})
	}
	return out, nil
}

// pack writes all files of the release.
func (r release) pack(ctx context.Context) error {
	targets, err := r.targets()
	if err != nil {
		return err
	}
	if err := os.RemoveAll(r.out); err != nil {
		return err
	}
	if err := os.MkdirAll(r.out, 0o755); err != nil {
		return err
	}
	n, err := collect(ctx, r.root, targets)
	if err != nil {
		return err
	}
	docs, err := r.documents(ctx, targets, n)
	if err != nil {
		return err
	}
	for _, t := range targets {
		if err := r.packTarget(t, docs, n); err != nil {
			return fmt.Errorf("pack %s: %w", t, err)
		}
	}
	digest, err := r.writeImage(targets, docs)
	if err != nil {
		return err
	}
	if err := r.writeChart(digest); err != nil {
		return err
	}
	if err := r.writeManifests(digest); err != nil {
		return err
	}
	if err := r.writeKrew(targets); err != nil {
		return err
	}
	return writeSums(r.out)
}

// packTarget writes what there is for each target: archive, bills of materials and, for Linux, packages.
func (r release) packTarget(t target, docs []entry, n notices) error {
	data, err := os.ReadFile(r.binary(t))
	if err != nil {
		return err
	}
	all := slices.Concat(docs, []entry{{name: "nftproxy", mode: 0o755, data: data}})
	if err := writeArchive(r.file(t, ".tar.gz"), r.time, all); err != nil {
		return err
	}
	if err := r.writeBills(t, n); err != nil {
		return err
	}
	if t.os != "linux" {
		return nil
	}
	return r.writePackages(t, all)
}
