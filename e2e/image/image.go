// SPDX-License-Identifier: Apache-2.0

package image

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"path"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Image describes a Linux image.
type Image struct {
	// Name is the full reference, with registry and tag, such as docker.io/library/nftproxy:v1.
	Name string
	// Entrypoint is the path of the binary in the image; Cmd are its default arguments.
	Entrypoint string
	Cmd        []string
	// Binaries has the binary's file on this machine for each GOARCH.
	Binaries []Binary
	Labels   map[string]string
	// Annotations are the index's and each manifest's.
	Annotations map[string]string
	// Created is the time that the configuration tells; zero tells none.
	Created time.Time
	// Files are in the image besides the binary, in a layer of their own.
	Files []File
}

// Binary is a static binary of one architecture.
type Binary struct {
	Arch string // GOARCH; arm is ARMv7
	File string
}

// File is a file of an image, owned by root, that all may read.
type File struct {
	Name string // its path in the image
	Data []byte
}

// index makes the image's index with a manifest for each binary.
func (i Image) index() (v1.ImageIndex, error) {
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, b := range i.Binaries {
		img, err := i.manifest(b)
		if err != nil {
			return nil, fmt.Errorf("make image %s for %s: %w", i.Name, b.Arch, err)
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: img,
			Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: b.Arch, Variant: b.variant()}}})
	}
	if len(i.Annotations) > 0 {
		index = mutate.Annotations(index, i.Annotations).(v1.ImageIndex)
	}
	return index, nil
}

// variant is the platform's variant, which arm has to name.
func (b Binary) variant() string {
	if b.Arch == "arm" {
		return "v7"
	}
	return ""
}

func (i Image) manifest(b Binary) (v1.Image, error) {
	layers, err := i.layers(b)
	if err != nil {
		return nil, err
	}
	img := mutate.MediaType(empty.Image, types.OCIManifestSchema1)
	img = mutate.ConfigMediaType(img, types.OCIConfigJSON)
	if img, err = mutate.AppendLayers(img, layers...); err != nil {
		return nil, err
	}
	if img, err = mutate.ConfigFile(img, i.config(b, img)); err != nil || len(i.Annotations) == 0 {
		return img, err
	}
	return mutate.Annotations(img, i.Annotations).(v1.Image), nil
}

// layers are the binary's, and one of all other files.
func (i Image) layers(b Binary) ([]v1.Layer, error) {
	data, err := os.ReadFile(b.File)
	if err != nil {
		return nil, err
	}
	layers := make([]v1.Layer, 0, 2)
	binary, err := layer(0o755, File{i.Entrypoint, data})
	if err != nil {
		return nil, err
	}
	layers = append(layers, binary)
	if len(i.Files) == 0 {
		return layers, nil
	}
	others, err := layer(0o644, i.Files...)
	return append(layers, others), err
}

func (i Image) config(b Binary, img v1.Image) *v1.ConfigFile {
	config, err := img.ConfigFile()
	if err != nil { // it was made in memory a moment ago
		panic(err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Variant = "linux", b.Arch, b.variant()
	config.Created = v1.Time{Time: i.Created}
	config.Config = v1.Config{Entrypoint: []string{i.Entrypoint}, Cmd: i.Cmd, Labels: i.Labels, WorkingDir: "/"}
	return config
}

// layer is a layer of files, owned by root, without times.
func layer(mode int64, files ...File) (v1.Layer, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		header := &tar.Header{Name: path.Clean(f.Name)[1:], Mode: mode, Size: int64(len(f.Data)), Typeflag: tar.TypeReg}
		if err := w.WriteHeader(header); err != nil {
			return nil, err
		}
		if _, err := w.Write(f.Data); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil }
	return tarball.LayerFromOpener(open, tarball.WithMediaType(types.OCILayer), tarball.WithCompressedCaching)
}
