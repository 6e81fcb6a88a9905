// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rhysd/actionlint"
	"sigs.k8s.io/yaml"
)

const github = checkout + "/.github"

// workflows are the files of GitHub's workflows.
func workflows(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(github + "/workflows/*.yml")
	must(t, err)
	if len(files) < 4 {
		t.Fatalf("%d workflows only", len(files))
	}
	return files
}

// TestWorkflows: actionlint finds no fault.
func TestWorkflows(t *testing.T) {
	linter, err := actionlint.NewLinter(io.Discard, &actionlint.LinterOptions{})
	must(t, err)
	faults, err := linter.LintFiles(workflows(t), nil)
	must(t, err)
	for _, f := range faults {
		t.Errorf("%s:%d: %s", f.Filepath, f.Line, f.Message)
	}
}

// TestPinned: actions and the jobs' images are named by digests, which nobody can move, with their version behind.
func TestPinned(t *testing.T) {
	pinned := regexp.MustCompile(`^[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$`)
	for _, file := range workflows(t) {
		text := read(t, file)
		for _, m := range regexp.MustCompile(`(?m)^\s*(?:- )?uses: (.*)$`).FindAllStringSubmatch(text, -1) {
			if !pinned.MatchString(m[1]) && !strings.HasPrefix(m[1], "./") {
				t.Errorf("%s: %s is not pinned", file, m[1])
			}
		}
		for _, m := range regexp.MustCompile(`(?m)^\s*container: (.*)$`).FindAllStringSubmatch(text, -1) {
			if !regexp.MustCompile(`@sha256:[0-9a-f]{64}$`).MatchString(m[1]) {
				t.Errorf("%s: %s is not pinned", file, m[1])
			}
		}
		if !strings.Contains(text, "\npermissions:\n  contents: read\n") {
			t.Errorf("%s: it has more rights than it needs, or does not say", file)
		}
	}
}

// TestToolchain: the image's Dockerfile builds with go.mod's toolchain, named by its digest, and the image has no base; what `make lint` uses has
// versions.
func TestToolchain(t *testing.T) {
	toolchain := regexp.MustCompile(`(?m)^toolchain go(\d+\.\d+\.\d+)$`).FindStringSubmatch(read(t, checkout, "go.mod"))
	if toolchain == nil {
		t.Fatal("go.mod has no toolchain")
	}
	froms := regexp.MustCompile(`(?m)^FROM (?:--\S+ )?(\S+)`).FindAllStringSubmatch(read(t, checkout, "deploy/Dockerfile"), -1)
	if len(froms) != 2 || !regexp.MustCompile(`^golang:`+regexp.QuoteMeta(toolchain[1])+`@sha256:[0-9a-f]{64}$`).MatchString(froms[0][1]) || froms[1][1] != "scratch" {
		t.Errorf("deploy/Dockerfile begins from %q, want golang:%s by its digest, and scratch", froms, toolchain[1])
	}
	for _, m := range regexp.MustCompile(`\S+/cmd/\S+@(\S+)`).FindAllStringSubmatch(read(t, checkout, "Makefile"), -1) {
		if !strings.HasPrefix(m[1], "$(") {
			t.Errorf("the Makefile runs %s, whose version is not a variable at its top", m[0])
		}
	}
	for _, tool := range []string{"GOLANGCI_LINT_VERSION", "GOVULNCHECK_VERSION"} {
		if !regexp.MustCompile(`(?m)^` + tool + ` +:= v\d+\.\d+\.\d+$`).MatchString(read(t, checkout, "Makefile")) {
			t.Errorf("the Makefile does not pin %s", tool)
		}
	}
	if linter := read(t, checkout, ".golangci.yml"); !strings.Contains(linter, "\n    - gosec\n") || !strings.Contains(linter, "\n    - staticcheck\n") {
		t.Error("`make lint` lacks gosec or staticcheck")
	}
}

// TestDownloads: what else comes from the network comes in ways that check it: Go's modules by go.sum and Go's checksum database, the packages
// of a distribution by its keys. Nothing else is fetched, and nothing is named by a version that moves.
func TestDownloads(t *testing.T) {
	files := append(workflows(t), checkout+"/Makefile", checkout+"/.ci/run", checkout+"/deploy/Dockerfile")
	fetches := regexp.MustCompile(`\b(?:curl|wget)\b[^|\n]*https?://|\b(?:pip3?|npm|npx|yarn|gem|cargo) +(?:install|ci|i|exec|-)|@(?:latest|main|master)\b|\bdocker +(?:pull|run)\b|GONOSUMDB|GONOSUMCHECK|GOFLAGS=-insecure|GOSUMDB=off|--allow-unauthenticated|trusted=yes|runs-on: \S+-latest`)
	for _, file := range files {
		for _, m := range fetches.FindAllString(read(t, file), -1) {
			t.Errorf("%s: %q fetches what nobody has pinned", file, m)
		}
	}
	for _, bad := range []string{"curl -sSL https://x.test/i | sh", "wget http://x.test", "pip install x", "go install x@latest", "docker run x", "GOSUMDB=off", "runs-on: ubuntu-latest"} {
		if !fetches.MatchString(bad) {
			t.Errorf("%q is not heard of", bad)
		}
	}
	modules, err := filepath.Glob(checkout + "/*/*/go.mod")
	must(t, err)
	for _, m := range append(modules, checkout+"/go.mod") {
		if read(t, strings.TrimSuffix(m, "mod")+"sum") == "" {
			t.Errorf("%s has no sums", m)
		}
	}
	// Programs that a workflow uses and a machine of GitHub's does not have come by an action, which must say which version.
	if release := read(t, github, "workflows/release.yml"); !regexp.MustCompile(`cosign-installer@[0-9a-f]{40} # v\S+\n\s+with:\n\s+cosign-release: v\d+\.\d+\.\d+\n`).MatchString(release) {
		t.Error("the release's workflow does not say which cosign signs")
	}
}

// TestTargets: each target of make that a workflow names is one, and each check that CONTRIBUTING.md has runs in some workflow.
func TestTargets(t *testing.T) {
	var all strings.Builder
	for _, file := range workflows(t) {
		all.WriteString(read(t, file))
	}
	makefile := read(t, checkout, "Makefile")
	named := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^ *- run: (?:.* )?make ([a-z0-9-]+)`).FindAllStringSubmatch(all.String(), -1) {
		named[m[1]] = true
	}
	for _, m := range regexp.MustCompile(`(?m)^ *target: \[(.*)\]$`).FindAllStringSubmatch(all.String(), -1) {
		for target := range strings.SplitSeq(m[1], ",") {
			name, _, _ := strings.Cut(strings.Trim(target, ` "`), " ")
			named[name] = true
		}
	}
	for name := range named {
		if !strings.Contains(makefile, "\n"+name+":") {
			t.Errorf("the Makefile has no target %s", name)
		}
	}
	for _, want := range []string{"lint", "vulncheck", "test", "race", "fuzz", "demo", "e2e", "e2e-cluster", "e2e-upstream", "faults", "kernels-quick", "kernels", "soak", "flaky", "release", "release-twice", "site"} {
		if !named[want] {
			t.Errorf("no workflow runs make %s", want)
		}
	}
	if !strings.Contains(all.String(), " .ci/run\n") {
		t.Error("no workflow runs .ci/run")
	}
}

// TestTools: workflows install what .ci/run installs.
func TestTools(t *testing.T) {
	list := regexp.MustCompile(`(?s)\ntools=\((.*?)\)`).FindStringSubmatch(read(t, checkout, ".ci/run"))
	if list == nil {
		t.Fatal(".ci/run has no list of tools")
	}
	const browser = "chromium-headless-shell" // Ubuntu has no such package; GitHub's machines have Chrome
	var want []string
	for tool := range strings.FieldsSeq(list[1]) {
		_, name, _ := strings.Cut(tool, ":")
		if name != browser {
			want = append(want, name)
		}
	}
	slices.Sort(want)
	want = slices.Compact(want)
	for _, name := range []string{"ci.yml", "nightly.yml"} {
		var workflow struct {
			Env map[string]string `json:"env"`
		}
		text := read(t, github, "workflows", name)
		must(t, yaml.Unmarshal([]byte(text), &workflow))
		if got := slices.Sorted(strings.FieldsSeq(workflow.Env["PACKAGES"])); !slices.Equal(got, want) {
			t.Errorf("%s installs %q, .ci/run %q", name, got, want)
		}
		before, _, runs := strings.Cut(text, " .ci/run\n")
		if runs && !strings.Contains(before, " /usr/local/bin/"+browser+"\n") {
			t.Errorf("%s: .ci/run finds no %s there, and no package of it", name, browser)
		}
	}
}

// TestForms: the other files of .github are YAML, and Dependabot knows each module.
func TestForms(t *testing.T) {
	forms, err := filepath.Glob(github + "/ISSUE_TEMPLATE/*.yml")
	must(t, err)
	for _, file := range append(forms, github+"/dependabot.yml") {
		var v map[string]any
		if err := yaml.UnmarshalStrict([]byte(read(t, file)), &v); err != nil || len(v) < 2 {
			t.Errorf("%s: %d keys, %v", file, len(v), err)
		}
	}
	modules, err := filepath.Glob(checkout + "/*/*/go.mod")
	must(t, err)
	for _, m := range modules {
		dir, err := filepath.Rel(checkout, filepath.Dir(m))
		must(t, err)
		if dependabot := read(t, github, "dependabot.yml"); !strings.HasPrefix(dir, "e2e/") && !strings.Contains(dependabot, `"/`+dir+`"`) {
			t.Errorf("Dependabot does not look at %s", dir)
		}
	}
}

// TestPromises: the tests that docs/versioning.md names are there.
func TestPromises(t *testing.T) {
	named := regexp.MustCompile("`(Test\\w+)` in `([\\w/]+)`").FindAllStringSubmatch(read(t, checkout, "docs/versioning.md"), -1)
	if len(named) < 3 {
		t.Fatalf("it names %d tests only", len(named))
	}
	for _, m := range named {
		files, err := filepath.Glob(filepath.Join(checkout, m[2], "*_test.go"))
		must(t, err)
		if !slices.ContainsFunc(files, func(f string) bool { return strings.Contains(read(t, f), "\nfunc "+m[1]+"(") }) {
			t.Errorf("there is no %s in %s", m[1], m[2])
		}
	}
}
