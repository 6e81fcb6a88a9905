// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"embed"
	"fmt"
	"io/fs"
	"os"
	"path"

	"github.com/nftproxy/nftproxy/e2e/proxy"
)

// embedded holds the built-in manifests, and the files that replace one of them
// while nftproxy runs.
//
//go:embed manifests/*.yaml changes/*.yaml
var embedded embed.FS

// endpointsFile is the built-in manifest that the changes replace.
const endpointsFile = "web-endpoints.yaml"

// copyManifests puts the files of a directory, or the built-in ones, where they can
// be changed.
func copyManifests(from string, to *proxy.Manifests) error {
	files := os.DirFS(from)
	if from == "" {
		var err error
		if files, err = fs.Sub(embedded, "manifests"); err != nil {
			return err
		}
	}
	entries, err := fs.ReadDir(files, ".")
	if err != nil {
		return fmt.Errorf("copy manifests from %q: %w", from, err)
	}
	for _, e := range entries {
		if e.IsDir() {
			continue
		}
		data, err := fs.ReadFile(files, e.Name())
		if err != nil {
			return fmt.Errorf("copy manifests from %q: %w", from, err)
		}
		if err := to.Write(e.Name(), data); err != nil {
			return err
		}
	}
	return nil
}

// builtIn returns one of the embedded files.
func builtIn(directory, name string) ([]byte, error) {
	return embedded.ReadFile(path.Join(directory, name))
}
