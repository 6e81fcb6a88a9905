// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nftproxy/nftproxy/e2e/upstream"
)

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// junit is a file of e2e.test with one spec.
func junit(spec, status string) string {
	return `<testsuites><testsuite><testcase name="[It] ` + spec + ` [sig-network]" status="` + status + `"></testcase></testsuite></testsuites>`
}

// TestReport: the page has a column for each proxy, and a spec that fails with nftproxy only is an error.
func TestReport(t *testing.T) {
	list, err := upstream.Specs()
	if err != nil {
		t.Fatal(err)
	}
	spec := list[0].Text
	dir, page, module := t.TempDir(), filepath.Join(t.TempDir(), "page.md"), filepath.Join(t.TempDir(), "go.mod")
	write(t, module, "require (\n\tk8s.io/kubernetes v1.37.2\n)\n")
	if err = report(dir, module, "v1", page); err == nil || !strings.Contains(err.Error(), "no results") {
		t.Errorf("without results: %v", err)
	}
	write(t, filepath.Join(dir, "kube-proxy/two-001.xml"), junit(spec, "passed"))
	write(t, filepath.Join(dir, "nftproxy/two-001.xml"), junit(spec, "failed"))
	if err = report(dir, module, "v1", page); err == nil || !strings.Contains(err.Error(), spec) {
		t.Errorf("fails with nftproxy only: %v", err)
	}
	write(t, filepath.Join(dir, "nftproxy/two-002.xml"), junit(spec, "passed"))
	if err = report(dir, module, "v1", page); err != nil {
		t.Errorf("passes at the second try: %v", err)
	}
	text, err := os.ReadFile(page)
	if err != nil || !strings.Contains(string(text), "passed at the second try | passed |\n") || !strings.Contains(string(text), "Kubernetes 1.37.2") {
		t.Errorf("%v\n%.2000s", err, text)
	}
}
