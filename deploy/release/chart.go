// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Places in the checkout.
const (
	chartFolder  = "deploy/chart"
	manifestFile = "deploy/nftproxy.yaml"
)

// edit is a text of which a file has at least one, and what it becomes.
type edit struct{ from, to string }

// apply makes the edits. One that finds nothing is an error: the file has changed, and the release would name something else.
func apply(file, text string, edits ...edit) (string, error) {
	for _, e := range edits {
		if !strings.Contains(text, e.from) {
			return "", fmt.Errorf("%s has no %q any more: deploy/release/chart.go must follow", file, e.from)
		}
		text = strings.ReplaceAll(text, e.from, e.to)
	}
	return text, nil
}

// chartVersions are what Chart.yaml of the checkout has: version and appVersion.
func (r release) chartVersions() (version, app string, err error) {
	text, err := os.ReadFile(filepath.Join(r.root, chartFolder, "Chart.yaml"))
	if err != nil {
		return "", "", err
	}
	for line := range strings.Lines(string(text)) {
		if v, ok := strings.CutPrefix(line, "version: "); ok {
			version = strings.TrimSpace(v)
		}
		if v, ok := strings.CutPrefix(line, "appVersion: "); ok {
			app = strings.TrimSpace(v)
		}
	}
	if version == "" || app == "" {
		return "", "", fmt.Errorf("%s/Chart.yaml has no version or no appVersion", chartFolder)
	}
	return version, app, nil
}

// writeChart packs the chart, with the release's versions and the image of this digest.
func (r release) writeChart(digest string) error {
	version, app, err := r.chartVersions()
	if err != nil {
		return err
	}
	edits := map[string][]edit{
		"Chart.yaml": {{"\nversion: " + version + "\n", "\nversion: " + r.number() + "\n"}, {"\nappVersion: " + app + "\n", "\nappVersion: " + r.version + "\n"}},
		"values.yaml": {{"\n  repository: nftproxy\n", "\n  repository: " + r.registry + "/nftproxy\n"},
			{"\n  digest: \"\"\n", "\n  # Empty it to use a tag.\n  digest: " + digest + "\n"}},
	}
	var all []entry
	root := filepath.Join(r.root, chartFolder)
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		text, err := apply(filepath.Join(chartFolder, name), string(data), edits[name]...)
		all = append(all, entry{"nftproxy/" + filepath.ToSlash(name), 0o644, []byte(text)})
		return err
	})
	if err != nil {
		return err
	}
	return writeArchive(filepath.Join(r.out, "nftproxy-"+r.number()+".tgz"), r.time, all)
}

// writeManifests writes the plain manifests, which are the chart with its default values, for the image of this digest.
func (r release) writeManifests(digest string) error {
	_, app, err := r.chartVersions()
	if err != nil {
		return err
	}
	data, err := os.ReadFile(filepath.Join(r.root, manifestFile))
	if err != nil {
		return err
	}
	text, err := apply(manifestFile, string(data),
		edit{"image: nftproxy:" + app + " # EDIT unless every node has this image\n", "image: " + r.registry + "/nftproxy@" + digest + " # " + r.version + "\n"},
		edit{"app.kubernetes.io/version: \"" + app + "\"\n", "app.kubernetes.io/version: \"" + r.version + "\"\n"},
		edit{"deploy/chart with its default values,\n# rendered by 'make manifests'. Edit the lines marked EDIT; README.md tells how.",
			"version " + r.version + ".\n# Edit the lines marked EDIT; " + homepage + "/tree/" + r.version + "/deploy tells how."})
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(r.out, "nftproxy.yaml"), []byte(text), 0o644)
}
