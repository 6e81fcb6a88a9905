// SPDX-License-Identifier: Apache-2.0

package image

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// containerdName is the annotation by which containerd and Docker learn an image's
// whole name; refName is the one of the OCI specification.
const (
	containerdName = "io.containerd.image.name"
	refName        = "org.opencontainers.image.ref.name"
)

// Write makes an OCI archive of the images.
func Write(file string, images ...Image) error {
	dir, err := os.MkdirTemp("", "oci-layout-")
	if err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	defer os.RemoveAll(dir)
	all := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, i := range images {
		index, err := i.index()
		if err != nil {
			return err
		}
		for _, name := range append([]string{i.Name}, i.Aliases...) {
			all = mutate.AppendManifests(all, mutate.IndexAddendum{Add: index,
				Descriptor: v1.Descriptor{Annotations: map[string]string{containerdName: name, refName: name}}})
		}
	}
	if _, err := layout.Write(dir, all); err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	if err := archive(dir, file); err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	return nil
}

// archive writes a tar file of the files below dir, in the order of their names.
func archive(dir, file string) error {
	out, err := os.Create(file)
	if err != nil {
		return err
	}
	w := tar.NewWriter(out)
	err = filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		return addFile(w, path, filepath.ToSlash(name))
	})
	return errors.Join(err, w.Close(), out.Close())
}

func addFile(w *tar.Writer, path, name string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: info.Size(), Typeflag: tar.TypeReg}); err != nil {
		return err
	}
	_, err = io.Copy(w, f)
	return err
}
