// SPDX-License-Identifier: Apache-2.0

package image

import (
	"archive/tar"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// File is a file of an image: a copy of one of this machine, a link, a folder, or what Data has.
type File struct {
	Name   string // its path in the image
	Source string // a file of this machine
	Link   string // what a link leads to
	Dir    bool
	Data   []byte
	Mode   int64 // 0755 if it is 0
}

func (f File) write(w *tar.Writer) error {
	header := &tar.Header{Name: path.Clean(f.Name)[1:], Mode: f.Mode, Typeflag: tar.TypeReg}
	if header.Mode == 0 {
		header.Mode = 0o755
	}
	switch {
	case f.Link != "":
		header.Typeflag, header.Linkname = tar.TypeSymlink, f.Link
	case f.Dir:
		header.Typeflag = tar.TypeDir
		header.Name += "/"
	case f.Source != "":
		data, err := os.ReadFile(f.Source)
		if err != nil {
			return err
		}
		f.Data = data
	}
	header.Size = int64(len(f.Data))
	if err := w.WriteHeader(header); err != nil {
		return err
	}
	_, err := w.Write(f.Data)
	return err
}

// Programs returns programs of this machine, as /usr/bin/NAME, and the libraries that they load.
func Programs(names ...string) ([]File, error) {
	var out []File
	seen := map[string]bool{}
	for _, name := range names {
		file, err := exec.LookPath(name)
		if err != nil {
			return nil, fmt.Errorf("find a program for an image: %w", err)
		}
		out = append(out, File{Name: "/usr/bin/" + filepath.Base(name), Source: file})
		libraries, err := libraries(file)
		if err != nil {
			return nil, err
		}
		for _, l := range libraries {
			if !seen[l] {
				seen[l] = true
				out = append(out, File{Name: l, Source: l})
			}
		}
	}
	return out, nil
}

// libraries asks the dynamic loader what a program would load. Of a static one it says that there is nothing.
func libraries(program string) ([]string, error) {
	text, err := exec.Command("ldd", program).CombinedOutput()
	if err != nil && !strings.Contains(string(text), "not a dynamic executable") {
		return nil, fmt.Errorf("list the libraries of %s: %w\n%s", program, err, text)
	}
	var out []string
	for word := range strings.FieldsSeq(string(text)) {
		if strings.HasPrefix(word, "/") && !slices.Contains(out, word) {
			out = append(out, word)
		}
	}
	return out, nil
}

// Registry returns files below a folder with the image for an architecture, from which agnhost's fake-registry-server
// serves it under a name and a tag.
func (i Image) Registry(dir, name, tag string) ([]File, error) {
	index, err := i.index()
	if err != nil {
		return nil, err
	}
	blob := func(kind string, digest v1.Hash, data []byte) File {
		return File{Name: path.Join(dir, name, kind, digest.Algorithm, digest.Hex[:2], digest.Hex, "data"), Data: data, Mode: 0o644}
	}
	list, err := index.RawManifest()
	digest, digestErr := index.Digest()
	manifest, manifestErr := index.IndexManifest()
	if err := errors.Join(err, digestErr, manifestErr); err != nil {
		return nil, err
	}
	out := []File{{Name: path.Join(dir, name, "manifests", tag), Data: []byte(digest.String() + "\n"), Mode: 0o644}, blob("manifests", digest, list)}
	for _, d := range manifest.Manifests {
		img, err := index.Image(d.Digest)
		if err != nil {
			return nil, err
		}
		raw, err := img.RawManifest()
		config, configErr := img.RawConfigFile()
		configName, nameErr := img.ConfigName()
		layers, layersErr := img.Layers()
		if err := errors.Join(err, configErr, nameErr, layersErr); err != nil {
			return nil, err
		}
		out = append(out, blob("manifests", d.Digest, raw), blob("blobs", configName, config))
		for _, l := range layers {
			digest, err := l.Digest()
			data, dataErr := compressed(l)
			if err := errors.Join(err, dataErr); err != nil {
				return nil, err
			}
			out = append(out, blob("blobs", digest, data))
		}
	}
	return out, nil
}
