// SPDX-License-Identifier: Apache-2.0

package upstream

import (
	"strings"
	"testing"
)

func specsOf(t *testing.T) []Spec {
	t.Helper()
	list, err := Specs()
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// TestSpecs: the list is whole, and the part of it for every change has 30 specs.
func TestSpecs(t *testing.T) {
	count := map[Cluster]int{}
	for _, s := range specsOf(t) {
		count[s.Cluster]++
	}
	if total, part := len(specsOf(t)), count[Part]; total != 249 || part != 30 {
		t.Errorf("%d specs, 30 of them in the part for every change: %d", total, part)
	}
}

func TestParse(t *testing.T) {
	for _, text := range []string{"two\n", "three\tb\n", "-\ta\n", "two\ta\nsix\ta\n", "two\ta\tb\tc\n"} {
		if list, err := parse(text); err == nil {
			t.Errorf("%q is read as %v, want an error", text, list)
		}
	}
}

// TestCompare: a spec that is new or gone is told of.
func TestCompare(t *testing.T) {
	list := specsOf(t)
	var b strings.Builder
	for _, s := range list[1:] {
		b.WriteString("    k8s.io/kubernetes/test/e2e/network/service.go:100: " + s.Text + "\n")
	}
	others := b.String() + "    test/e2e/node/pods.go:7: [sig-node] Pods should run\n"
	if err := Compare(list[1:], others); err != nil {
		t.Error(err)
	}
	if err := Compare(list, others); err == nil || !strings.Contains(err.Error(), "gone: "+list[0].Text) {
		t.Errorf("a spec that is gone: %v", err)
	}
	if err := Compare(list[2:], others); err == nil || !strings.Contains(err.Error(), "new: "+list[1].Text) {
		t.Errorf("a spec that is new: %v", err)
	}
	if err := Compare(list, ""); err == nil {
		t.Error("an empty list is no error")
	}
}

const junitFile = `<?xml version="1.0"?><testsuites><testsuite>
<testcase name="[SynchronizedBeforeSuite]" status="passed"></testcase>
<testcase name="[It] a [x] [sig-network, Conformance]" status="passed"></testcase>
<testcase name="[It] b [sig-network]" status="failed"><failure message="no answer"></failure></testcase>
<testcase name="[It] c" status="skipped"><skipped message="skipped - Need at least 3 nodes"></skipped></testcase>
<testcase name="[It] d" status="skipped"><skipped message="skipped"></skipped></testcase>
<testcase name="[It] e" status="timedout"></testcase>
</testsuite></testsuites>`

func TestResults(t *testing.T) {
	ours, theirs := Results{"b": Passed}, Results{"b": Passed, "e": Failed}
	if err := ours.Add(strings.NewReader(junitFile)); err != nil {
		t.Fatal(err)
	}
	list := []Spec{{Text: "a [x]", Cluster: Two}, {Text: "b", Cluster: Two, Reason: "a [bug]"}, {Text: "c", Cluster: Six}, {Text: "d", Cluster: Two}, {Text: "e", Cluster: Part},
		{Text: "f | g", Cluster: None, Reason: "wants <ssh>"}}
	if got := Worse(list, ours, theirs); len(got) != 1 || got[0] != "b" {
		t.Errorf("worse than kube-proxy: %q, want b", got)
	}
	page := Page(list, Run{Kubernetes: "1.37.2", Kernel: "6.18", Nftproxy: "1.0", Date: "2026-11-29", Columns: []Column{{"nftproxy", ours}, {"kube-proxy", theirs}}})
	for _, want := range []string{
		"Of 6 specs 5 are chosen, 0 of them", "| nftproxy | 1 | 0 | 2 | 1 | 1 |\n", "| kube-proxy | 1 | 0 | 1 | 0 | 3 |\n",
		`| a \[x\] | passed | not run |`, "| b | failed | passed |", "| c | skips itself | not run |", "| d | not run | not run |", "| e | failed | failed |",
		`| f \| g | wants &lt;ssh> |`, "- b: a \\[bug\\].\n",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q:\n%s", want, page)
		}
	}
	if err := ours.Add(strings.NewReader("<testsuites>")); err == nil {
		t.Error("a broken file is read")
	}
}
