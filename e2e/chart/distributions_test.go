// SPDX-License-Identifier: Apache-2.0

package chart

import (
	"os"
	"regexp"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	"sigs.k8s.io/yaml"

	"helm.sh/helm/v3/pkg/strvals"
)

// installs returns the values of each `helm install` of a page, by the heading above it.
func installs(t *testing.T, page string) map[string][]map[string]any {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][]map[string]any{}
	setting := regexp.MustCompile(` --set(-string)? ('[^']*'|\S+)`)
	for section := range strings.SplitSeq(string(text), "\n## ") {
		name, _, _ := strings.Cut(section, "\n")
		for _, m := range regexp.MustCompile(`(?m)^    helm install nftproxy deploy/chart ((?:.*\\\n)*.*)$`).FindAllStringSubmatch(section, -1) {
			values := map[string]any{}
			for _, s := range setting.FindAllStringSubmatch(" "+m[1], -1) {
				parse := strvals.ParseInto
				if s[1] != "" {
					parse = strvals.ParseIntoString
				}
				if err := parse(strings.Trim(s[2], "'"), values); err != nil {
					t.Errorf("%s: %s: %v", name, s[0], err)
				}
			}
			out[name] = append(out[name], values)
		}
	}
	return out
}

// TestDistributions: the chart takes the values that pages have, and nodes are told where the API server is.
func TestDistributions(t *testing.T) {
	pages := installs(t, "../../docs/distributions.md")
	for _, page := range []string{"docs/beside-cilium.md", "deploy/README.md"} {
		more := installs(t, "../../"+page)
		if len(more) == 0 {
			t.Errorf("%s has no command: it is not found", page)
		}
		for name, list := range more {
			pages[page+": "+name] = list
		}
	}
	if len(pages) < 10 {
		t.Errorf("only %d sections have a command: they are not found", len(pages))
	}
	for name, list := range pages {
		for _, values := range list {
			text, err := Render(dir, "kube-system", values)
			if err != nil {
				t.Errorf("%s: %v: %v", name, values, err)
				continue
			}
			if values["kubeProxyConfigMap"] != nil {
				continue
			}
			var ds appsv1.DaemonSet
			for doc := range strings.SplitSeq(text, "\n---\n") {
				if strings.Contains(doc, "\nkind: DaemonSet\n") {
					if err := yaml.UnmarshalStrict([]byte(doc), &ds); err != nil {
						t.Errorf("%s: %v", name, err)
					}
				}
			}
			env := map[string]string{}
			for _, e := range ds.Spec.Template.Spec.Containers[0].Env {
				env[e.Name] = e.Value
			}
			host, _ := values["apiServer"].(map[string]any)["host"].(string)
			if env["KUBERNETES_SERVICE_HOST"] != host || host == "" || env["KUBERNETES_SERVICE_PORT"] == "" {
				t.Errorf("%s: nodes look for the API server at %q, port %q", name, env["KUBERNETES_SERVICE_HOST"], env["KUBERNETES_SERVICE_PORT"])
			}
		}
	}
}
