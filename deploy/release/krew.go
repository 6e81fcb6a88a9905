// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"

	"sigs.k8s.io/yaml"
)

// plugin is a manifest of Krew (krew.googlecontainertools.github.com/v1alpha2), with what it has here.
type plugin struct {
	APIVersion string            `json:"apiVersion"`
	Kind       string            `json:"kind"`
	Metadata   map[string]string `json:"metadata"`
	Spec       pluginSpec        `json:"spec"`
}

type pluginSpec struct {
	Version          string     `json:"version"`
	Homepage         string     `json:"homepage"`
	ShortDescription string     `json:"shortDescription"`
	Description      string     `json:"description"`
	Caveats          string     `json:"caveats"`
	Platforms        []platform `json:"platforms"`
}

type platform struct {
	Selector struct {
		MatchLabels map[string]string `json:"matchLabels"`
	} `json:"selector"`
	URI    string              `json:"uri"`
	Sha256 string              `json:"sha256"`
	Bin    string              `json:"bin"`
	Files  []map[string]string `json:"files"`
}

// writeKrew writes the manifest by which `kubectl krew install --manifest` installs the program as `kubectl nftproxy`.
func (r release) writeKrew(targets []target) error {
	p := plugin{APIVersion: "krew.googlecontainertools.github.com/v1alpha2", Kind: "Plugin", Metadata: map[string]string{"name": "nftproxy"},
		Spec: pluginSpec{Version: r.version, Homepage: homepage, ShortDescription: "Explain what becomes of connections to Services",
			Description: "Says in plain words what becomes of connections to a Service and why, on one node or all of them, by running\n" +
				"nftproxy's own commands in the pods of its DaemonSet. It looks only: it changes neither cluster nor node.\n",
			Caveats: "It needs the rights to list pods and to create pods/exec. Without --node or --all-nodes, explain and dump answer\n" +
				"from the cluster's objects, and say that this is a guess.\n"}}
	for _, t := range targets {
		archive := r.file(t, ".tar.gz")
		sum, err := sumOf(archive)
		if err != nil {
			return err
		}
		f := platform{URI: homepage + "/releases/download/" + r.version + "/" + filepath.Base(archive), Sha256: sum, Bin: "nftproxy",
			Files: []map[string]string{{"from": "nftproxy", "to": "."}, {"from": licenceFile, "to": "."}, {"from": noticesFile, "to": "."}}}
		f.Selector.MatchLabels = map[string]string{"os": t.os, "arch": t.arch}
		p.Spec.Platforms = append(p.Spec.Platforms, f)
	}
	text, err := yaml.Marshal(p)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(r.out, "krew.yaml"), text, 0o644)
}
