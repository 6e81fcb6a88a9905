// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"strings"
	"testing"
)

func TestTally(t *testing.T) {
	const events = `{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestA","Output":"first\n"}
{"Action":"pass","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestA","Output":"second\n"}
{"Action":"fail","Package":"p","Test":"TestA"}
{"Action":"skip","Package":"p","Test":"TestB"}
{"Action":"pass","Package":"p","Test":"TestC"}
{"Action":"fail","Package":"p"}
`
	tally := newTally()
	if err := tally.read(strings.NewReader(events)); err != nil {
		t.Fatal(err)
	}
	if got := string(tally.log); got != "second\n" {
		t.Errorf("log %q, want the output of the run that failed", got)
	}
	tally.log = nil
	var out bytes.Buffer
	if tally.report(&out, 4) {
		t.Error("a failure is reported as none")
	}
	for _, want := range []string{"beside a load of 4: 2 runs of tests passed, 2 tests and packages failed, 1 tests skipped\n",
		"  p TestA: failed 1 of 2 times\n", "  p: failed 1 of 1 times\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("report %q lacks %q", out.String(), want)
		}
	}
	if err := newTally().read(strings.NewReader("no JSON")); err == nil {
		t.Error("text that is no JSON is taken")
	}
}
