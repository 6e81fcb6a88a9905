// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/nftproxy/nftproxy/e2e/image"
)

// imageFile is the image's archive in the release's folder.
const imageFile = "nftproxy-image.tar"

// writeImage writes the image of all Linux targets, as an OCI archive, and returns its digest.
func (r release) writeImage(targets []target, docs []entry) (string, error) {
	img := image.Nftproxy(r.image(), r.version)
	img.Created = r.time
	for name, value := range map[string]string{
		"created": r.time.Format(time.RFC3339), "revision": r.commit, "source": homepage, "url": homepage,
		"documentation": homepage + "/tree/" + r.version + "/docs", "description": summary, "vendor": "nftproxy",
	} {
		img.Labels["org.opencontainers.image."+name] = value
	}
	img.Annotations = img.Labels
	for _, t := range targets {
		if t.os == "linux" {
			img.Binaries = append(img.Binaries, image.Binary{Arch: t.arch, File: r.binary(t)})
		}
	}
	for _, name := range []string{licenceFile, noticesFile} {
		if i := slices.IndexFunc(docs, func(e entry) bool { return e.name == name }); i >= 0 {
			img.Files = append(img.Files, image.File{Name: "/licenses/" + name, Data: docs[i].data, Mode: docs[i].mode})
		}
	}
	file := filepath.Join(r.out, imageFile)
	if err := image.Write(file, img); err != nil {
		return "", err
	}
	return digestOf(file)
}

// digestOf reads the digest of the image in an archive.
func digestOf(file string) (string, error) {
	scratch, err := os.MkdirTemp("", "nftproxy-image-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(scratch)
	index, _, err := open(file, scratch)
	if err != nil {
		return "", fmt.Errorf("read %s: %w", file, err)
	}
	digest, err := index.Digest()
	return digest.String(), err
}
