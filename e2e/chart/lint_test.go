// SPDX-License-Identifier: Apache-2.0

package chart

import (
	"bytes"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"helm.sh/helm/v3/pkg/lint"
	"helm.sh/helm/v3/pkg/lint/support"
	"sigs.k8s.io/yaml"
)

// chart-testing (ct lint) is a program around Helm, yamllint and yamale, of which the latter two are Python. These tests hold its rules:
// `helm lint`, and what its chart_schema.yaml and lintconf.yaml ask for of Chart.yaml and values.yaml.

// TestHelmLint: helm lint says nothing but that an icon is recommended, with the chart's own values and with all that is optional.
func TestHelmLint(t *testing.T) {
	for _, values := range []string{"", "{podMonitor: {enabled: true}, prometheusRule: {enabled: true}, dashboard: {enabled: true}, metrics: {bindAddress: '0.0.0.0:10249'}, conntrackSysctls: true}",
		"{kubeProxyConfigMap: kube-proxy, conntrackSysctls: false, serviceMonitor: {enabled: true}, metrics: {bindAddress: '0.0.0.0:10249'}}"} {
		var v map[string]any
		if err := yaml.Unmarshal([]byte(values), &v); err != nil {
			t.Fatal(err)
		}
		for _, m := range lint.AllWithKubeVersion(dir, v, "kube-system", nil).Messages {
			if m.Severity > support.InfoSev || !strings.Contains(m.Err.Error(), "icon is recommended") {
				t.Errorf("%s: %v", values, m)
			}
		}
	}
}

// TestChartSchema: Chart.yaml has the fields of chart-testing's chart_schema.yaml, of the types there, and no other.
func TestChartSchema(t *testing.T) {
	data, err := os.ReadFile(dir + "/Chart.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := chartSchema(data); err != nil {
		t.Error(err)
	}
	for _, bad := range []string{"name: x\n", string(data) + "icons: x\n", strings.Replace(string(data), "keywords: [", "keywords: [[x], ", 1),
		strings.Replace(string(data), "  url:", "  page:", 1)} {
		if chartSchema([]byte(bad)) == nil {
			t.Errorf("this is good:\n%s", bad)
		}
	}
}

// chartSchema is chart_schema.yaml. The fields that it demands are set.
func chartSchema(data []byte) error {
	var c struct {
		Name, Home, Version, APIVersion, Description                 string
		AppVersion, Icon, Engine, Condition, Tags, KubeVersion, Type *string
		Keywords, Sources                                            []string
		Deprecated                                                   *bool
		Annotations                                                  map[string]string
		Maintainers                                                  []struct {
			Name       string
			Email, URL *string
		}
	}
	if err := yaml.UnmarshalStrict(data, &c); err != nil {
		return err
	}
	for _, must := range []string{c.Name, c.Home, c.Version, c.APIVersion, c.Description} {
		if must == "" {
			return fmt.Errorf("one of name, home, version, apiVersion and description is missing: %+v", c)
		}
	}
	if i := slices.IndexFunc(c.Maintainers, func(m struct {
		Name       string
		Email, URL *string
	}) bool {
		return m.Name == ""
	}); i >= 0 {
		return fmt.Errorf("maintainer %d has no name", i)
	}
	return nil
}

// yamlRules are the rules of chart-testing's lintconf.yaml that can be told from a line; what is in quotes or a comment counts not.
var yamlRules = map[string]*regexp.Regexp{
	"braces, brackets: no space inside":        regexp.MustCompile(`[\[{] +[^\]} ]|[^\[{ ,] +[\]}]`),
	"colons: no space before, one after":       regexp.MustCompile(`[^ ] +:( |$)|: {2,}\S`),
	"commas: no space before, one after":       regexp.MustCompile(` ,|,\S|, {2,}`),
	"hyphens: one space after":                 regexp.MustCompile(`^ *- {2,}`),
	"trailing spaces":                          regexp.MustCompile(`\s$`),
	"indentation by spaces, of an even number": regexp.MustCompile(`^( {2})* ([^ ]|$)|^\s*\t`),
}

// yamlFaults returns what chart-testing's yamllint would say of a file.
func yamlFaults(data []byte) (out []string) {
	say := func(line int, what string) { out = append(out, fmt.Sprintf("line %d: %s", line+1, what)) }
	if !bytes.HasSuffix(data, []byte("\n")) || bytes.HasSuffix(data, []byte("\n\n")) || bytes.HasPrefix(data, []byte("\n")) {
		say(0, "empty lines at the start or end, or none")
	}
	if bytes.Contains(data, []byte("\r")) || bytes.Contains(data, []byte("\n\n\n\n")) {
		say(0, "new lines of another system, or more than two empty ones")
	}
	quoted, comment := regexp.MustCompile(`"[^"]*"|'[^']*'`), regexp.MustCompile(`(^|\s)#.*$`)
	for i, line := range strings.Split(strings.TrimSuffix(string(data), "\n"), "\n") {
		bare := quoted.ReplaceAllString(line, "x")
		if c := comment.FindStringIndex(bare); c != nil {
			before, text := bare[:c[0]], strings.TrimLeft(bare[c[0]:], " ")
			if text != "#" && !strings.HasPrefix(text, "# ") && !strings.HasPrefix(text, "##") {
				say(i, "comments: a space after #")
			}
			if strings.TrimSpace(before) != "" && !strings.HasPrefix(bare[c[0]:], "  #") && !strings.HasSuffix(before, " ") {
				say(i, "comments: two spaces before")
			}
			if strings.HasSuffix(line, " ") {
				say(i, "trailing spaces")
			}
			bare = strings.TrimRight(before, " ")
		}
		for what, rule := range yamlRules {
			if rule.MatchString(bare) {
				say(i, what)
			}
		}
	}
	var v any
	if err := yaml.UnmarshalStrict(data, &v); err != nil {
		say(0, "key-duplicates: "+err.Error())
	}
	slices.Sort(out)
	return out
}

// TestYAML: the files that chart-testing looks at keep its rules, and each rule is heard of.
func TestYAML(t *testing.T) {
	for _, name := range []string{"Chart.yaml", "values.yaml"} {
		data, err := os.ReadFile(dir + "/" + name)
		if err != nil {
			t.Fatal(err)
		}
		for _, fault := range yamlFaults(data) {
			t.Errorf("%s: %s", name, fault)
		}
	}
	for text, want := range map[string]string{
		"a: [ 1]\n": "braces", "a: [1 ]\n": "braces", "a: { b: 1}\n": "braces", "a : 1\n": "colons", "a:  1\n": "colons", "a: [1,2]\n": "commas", "a: [1 , 2]\n": "commas",
		"-  a\n": "hyphens", "a: 1 \n": "trailing", "a:\n   b: 1\n": "indentation", "a: 1": "empty lines", "a: 1\n\n": "empty lines", "a: 1\n\n\n\nb: 1\n": "two empty",
		"a: 1\r\n": "new lines", "a: 1 # b\n": "two spaces", "#a\n": "space after #", "a: 1\na: 2\n": "key-duplicates", "# a \n": "trailing",
	} {
		if got := yamlFaults([]byte(text)); !slices.ContainsFunc(got, func(s string) bool { return strings.Contains(s, want) }) {
			t.Errorf("%q: %q, want %s", text, got, want)
		}
	}
	for _, good := range []string{"a: [1, {b: 'x,y : [ z'}]\nc: {}\n# d\n\n\ne: 1  # f\n- g\n"} {
		if got := yamlFaults([]byte(strings.TrimSuffix(good, "- g\n"))); len(got) > 0 {
			t.Errorf("%q: %q", good, got)
		}
	}
}
