// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Media types of Helm's charts and of bills of materials.
const (
	chartConfig  = types.MediaType("application/vnd.cncf.helm.config.v1+json")
	chartContent = types.MediaType("application/vnd.cncf.helm.chart.content.v1.tar+gzip")
	emptyConfig  = types.MediaType("application/vnd.oci.empty.v1+json")
	spdxJSON     = types.MediaType("application/spdx+json")
	cycloneJSON  = types.MediaType("application/vnd.cyclonedx+json")
)

// push publishes the image that pack has written, the bills of materials as its referrers, and the chart, each at the place that the
// image's name says. Whoever is logged in to the registry (docker login, crane auth login) may do it.
func push(ctx context.Context, dir string, out io.Writer) error {
	scratch, err := os.MkdirTemp("", "nftproxy-push-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(scratch)
	index, full, err := open(filepath.Join(dir, imageFile), scratch)
	if err != nil {
		return fmt.Errorf("read %s: %w", imageFile, err)
	}
	ref, err := name.NewTag(full)
	if err != nil {
		return err
	}
	options := []remote.Option{remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain)}
	if err := remote.WriteIndex(ref, index, options...); err != nil {
		return fmt.Errorf("push %s: %w", ref, err)
	}
	subject, err := partial.Descriptor(index)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%s@%s\n", ref.Context(), subject.Digest)
	if err := pushBills(dir, ref.Repository, *subject, out, options...); err != nil {
		return err
	}
	return pushChart(dir, path.Join(path.Dir(ref.Context().Name()), "charts"), out, options...)
}

// open unpacks an OCI archive of one image and returns it and its name.
func open(file, scratch string) (v1.ImageIndex, string, error) {
	if err := unpack(file, scratch); err != nil {
		return nil, "", err
	}
	all, err := layout.ImageIndexFromPath(scratch)
	if err != nil {
		return nil, "", err
	}
	m, err := all.IndexManifest()
	if err != nil {
		return nil, "", err
	}
	if len(m.Manifests) != 1 {
		return nil, "", fmt.Errorf("%d images, want 1", len(m.Manifests))
	}
	index, err := all.ImageIndex(m.Manifests[0].Digest)
	return index, m.Manifests[0].Annotations["org.opencontainers.image.ref.name"], err
}

// unpack writes the files of a tar file below a folder, and none elsewhere.
func unpack(file, dir string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := root.MkdirAll(path.Dir(h.Name), 0o755); err != nil {
			return err
		}
		data, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		if err := root.WriteFile(h.Name, data, 0o644); err != nil {
			return err
		}
	}
}

// pushBills attaches each bill of materials to the image, as an artefact that refers to it (OCI 1.1).
func pushBills(dir string, repo name.Repository, subject v1.Descriptor, out io.Writer, options ...remote.Option) error {
	for _, kind := range []struct {
		suffix string
		media  types.MediaType
	}{{".spdx.json", spdxJSON}, {".cdx.json", cycloneJSON}} {
		bills, err := filepath.Glob(filepath.Join(dir, "nftproxy_*_linux_*"+kind.suffix))
		if err != nil {
			return err
		}
		for _, bill := range bills {
			data, err := os.ReadFile(bill)
			if err != nil {
				return err
			}
			img, err := artefact(v1.Manifest{Subject: &subject, ArtifactType: string(kind.media), Config: v1.Descriptor{MediaType: emptyConfig},
				Annotations: map[string]string{"org.opencontainers.image.title": filepath.Base(bill)}}, []byte("{}"), static.NewLayer(data, kind.media))
			if err != nil {
				return err
			}
			digest, err := img.Digest()
			if err != nil {
				return err
			}
			if err := remote.Write(repo.Digest(digest.String()), img, options...); err != nil {
				return fmt.Errorf("attach %s: %w", bill, err)
			}
			fmt.Fprintf(out, "%s for %s\n", filepath.Base(bill), subject.Digest)
		}
	}
	return nil
}

// pushChart publishes the chart.
func pushChart(dir, repo string, out io.Writer, options ...remote.Option) error {
	files, err := filepath.Glob(filepath.Join(dir, "nftproxy-*.tgz"))
	if err != nil || len(files) != 1 {
		return fmt.Errorf("%d charts in %s, want 1", len(files), dir)
	}
	img, version, err := chartImage(files[0])
	if err != nil {
		return err
	}
	ref, err := name.NewTag(repo + "/nftproxy:" + strings.ReplaceAll(version, "+", "_"))
	if err != nil {
		return err
	}
	if err := remote.Write(ref, img, options...); err != nil {
		return fmt.Errorf("push %s: %w", ref, err)
	}
	_, err = fmt.Fprintln(out, "oci://"+ref.String())
	return err
}
