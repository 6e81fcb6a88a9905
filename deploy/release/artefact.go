// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"sigs.k8s.io/yaml"
)

// raw is a manifest with a configuration that need not be an image's.
type raw struct {
	manifest, config []byte
	layer            v1.Layer
}

func (r raw) RawManifest() ([]byte, error)        { return r.manifest, nil }
func (r raw) RawConfigFile() ([]byte, error)      { return r.config, nil }
func (r raw) MediaType() (types.MediaType, error) { return types.OCIManifestSchema1, nil }
func (r raw) LayerByDigest(h v1.Hash) (partial.CompressedLayer, error) {
	if digest, err := r.layer.Digest(); err != nil || digest != h {
		return nil, fmt.Errorf("there is no layer %s", h)
	}
	return r.layer, nil
}

// artefact completes a manifest that has all but the descriptors of its configuration, whose media type it has, and of its layer.
func artefact(m v1.Manifest, config []byte, layer v1.Layer) (v1.Image, error) {
	var err error
	m.SchemaVersion, m.MediaType = 2, types.OCIManifestSchema1
	if m.Config.Digest, m.Config.Size, err = v1.SHA256(bytes.NewReader(config)); err != nil {
		return nil, err
	}
	d, err := partial.Descriptor(layer)
	if err != nil {
		return nil, err
	}
	m.Layers = []v1.Descriptor{*d}
	manifest, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	return partial.CompressedToImage(raw{manifest, config, layer})
}

// chartImage makes of a packed chart what `helm push` makes of it, and returns the chart's version.
func chartImage(file string) (v1.Image, string, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, "", err
	}
	text, err := memberOf(data, "nftproxy/Chart.yaml")
	if err != nil {
		return nil, "", fmt.Errorf("read %s: %w", file, err)
	}
	var about struct {
		Name        string `json:"name"`
		Version     string `json:"version"`
		Description string `json:"description"`
	}
	if err := yaml.Unmarshal(text, &about); err != nil {
		return nil, "", err
	}
	config, err := yaml.YAMLToJSON(text)
	if err != nil {
		return nil, "", err
	}
	img, err := artefact(v1.Manifest{Config: v1.Descriptor{MediaType: chartConfig}, Annotations: map[string]string{
		"org.opencontainers.image.title": about.Name, "org.opencontainers.image.version": about.Version,
		"org.opencontainers.image.description": about.Description, "org.opencontainers.image.source": homepage,
	}}, config, static.NewLayer(data, chartContent))
	return img, about.Version, err
}

// memberOf returns a file of a compressed tar file.
func memberOf(archive []byte, name string) ([]byte, error) {
	files, err := membersOf(archive)
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		if f.name == name {
			return f.data, nil
		}
	}
	return nil, fmt.Errorf("it has no %s", name)
}

// membersOf returns the files of a compressed tar file.
func membersOf(archive []byte) ([]entry, error) {
	z, err := gzip.NewReader(bytes.NewReader(archive))
	if err != nil {
		return nil, err
	}
	var out []entry
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		data, err := io.ReadAll(r)
		if err != nil {
			return nil, err
		}
		out = append(out, entry{h.Name, h.Mode, data})
	}
}
