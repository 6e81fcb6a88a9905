// SPDX-License-Identifier: Apache-2.0

package chart

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
)

// header is at the top of the plain manifests.
const header = `# nftproxy on every node, in place of kube-proxy: deploy/chart with its default values,
# rendered by 'make manifests'. Edit the lines marked EDIT; README.md tells how.
`

// Render renders the chart in dir with values that override the chart's own, as
// `helm template nftproxy DIR --namespace NAMESPACE` does: the documents in the order of
// files and lines. Values that the chart's schema forbids are an error.
func Render(dir, namespace string, values map[string]any) (string, error) {
	files, err := renderFiles(dir, namespace, values)
	if err != nil {
		return "", err
	}
	var docs []string
	for _, name := range order(files) {
		if text := strings.TrimSpace(files[name]); text != "" {
			docs = append(docs, text)
		}
	}
	return strings.Join(docs, "\n---\n") + "\n", nil
}

// renderFiles renders each file of the chart.
func renderFiles(dir, namespace string, values map[string]any) (map[string]string, error) {
	c, err := loader.Load(dir)
	if err != nil {
		return nil, fmt.Errorf("load chart %s: %w", dir, err)
	}
	release := chartutil.ReleaseOptions{Name: "nftproxy", Namespace: namespace, Revision: 1, IsInstall: true}
	all, err := chartutil.ToRenderValues(c, values, release, chartutil.DefaultCapabilities)
	if err != nil {
		return nil, fmt.Errorf("check values of chart %s: %w", dir, err)
	}
	files, err := engine.Render(c, all)
	if err != nil {
		return nil, fmt.Errorf("render chart %s: %w", dir, err)
	}
	return files, nil
}

// order lists the manifests, what others need first.
func order(files map[string]string) []string {
	first := []string{"rbac.yaml", "configmap.yaml", "daemonset.yaml"}
	var names []string
	for name := range files {
		if path.Ext(name) == ".yaml" && !strings.Contains(name, "/tests/") {
			names = append(names, name)
		}
	}
	rank := func(name string) int {
		if i := slices.Index(first, path.Base(name)); i >= 0 {
			return i
		}
		return len(first)
	}
	slices.SortFunc(names, func(a, b string) int {
		if d := rank(a) - rank(b); d != 0 {
			return d
		}
		return strings.Compare(a, b)
	})
	return names
}

// helmsOwn are labels that only a release of Helm has.
var helmsOwn = []string{"app.kubernetes.io/managed-by: ", "app.kubernetes.io/instance: ", "helm.sh/chart: "}

// Plain renders what deploy/nftproxy.yaml holds.
func Plain(dir string) (string, error) {
	text, err := Render(dir, "kube-system", nil)
	var out strings.Builder
	for line := range strings.Lines(text) {
		if !slices.ContainsFunc(helmsOwn, func(label string) bool { return strings.HasPrefix(strings.TrimSpace(line), label) }) {
			out.WriteString(line)
		}
	}
	return header + out.String(), err
}

// Notes renders what helm shows after it has installed the chart.
func Notes(dir, namespace string, values map[string]any) (string, error) {
	files, err := renderFiles(dir, namespace, values)
	return files["nftproxy/templates/NOTES.txt"], err
}

// Tests renders what `helm test` runs.
func Tests(dir, namespace string, values map[string]any) (string, error) {
	files, err := renderFiles(dir, namespace, values)
	return files["nftproxy/templates/tests/diff.yaml"], err
}
