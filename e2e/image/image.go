// SPDX-License-Identifier: Apache-2.0

package image

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
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
	// Aliases are further names of the same image.
	Aliases []string
	// Entrypoint is the path of the binary in the image; Cmd are its default arguments.
	Entrypoint string
	Cmd        []string
	// Binaries has the binary's file on this machine for each GOARCH.
	Binaries []Binary
	// Files are in the image besides the binary, whatever its architecture.
	Files  []File
	Labels map[string]string
	// Annotations are the index's and each manifest's.
	Annotations map[string]string
	// Created is the time that the configuration tells; zero tells none.
	Created time.Time
}

// Binary is a static binary of one architecture.
type Binary struct {
	Arch string // GOARCH; arm is ARMv7
	File string
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
	layers := []v1.Layer{}
	if len(i.Files) > 0 {
		layer, err := filesLayer(i.Files)
		if err != nil {
			return nil, err
		}
		layers = append(layers, layer)
	}
	layer, err := binaryLayer(b.File, i.Entrypoint)
	if err != nil {
		return nil, err
	}
	img := mutate.MediaType(empty.Image, types.OCIManifestSchema1)
	img = mutate.ConfigMediaType(img, types.OCIConfigJSON)
	if img, err = mutate.AppendLayers(img, append(layers, layer)...); err != nil {
		return nil, err
	}
	if img, err = mutate.ConfigFile(img, i.config(b, img)); err != nil || len(i.Annotations) == 0 {
		return img, err
	}
	return mutate.Annotations(img, i.Annotations).(v1.Image), nil
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

// binaryLayer is a layer of one executable file, owned by root, without times.
func binaryLayer(file, name string) (v1.Layer, error) {
	return filesLayer([]File{{Name: name, Source: file}})
}

// filesLayer is a layer of files, owned by root, without times.
func filesLayer(files []File) (v1.Layer, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		if err := f.write(w); err != nil {
			return nil, fmt.Errorf("add %s: %w", f.Name, err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil }
	return tarball.LayerFromOpener(open, tarball.WithMediaType(types.OCILayer), tarball.WithCompressedCaching)
}

// compressed returns a layer as it is stored.
func compressed(l v1.Layer) ([]byte, error) {
	r, err := l.Compressed()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}
