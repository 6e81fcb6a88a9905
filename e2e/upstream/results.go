// SPDX-License-Identifier: Apache-2.0

package upstream

import (
	"encoding/xml"
	"fmt"
	"io"
	"regexp"
	"strings"
)

// Outcome is what became of a spec.
type Outcome string

// The outcomes. A spec that no junit file tells of is NotRun.
const (
	NotRun  Outcome = "not run"
	Passed  Outcome = "passed"
	Later   Outcome = "passed at the second try"
	Failed  Outcome = "failed"
	Skipped Outcome = "skips itself"
)

// Results are outcomes by the specs' texts.
type Results map[string]Outcome

// junit is what ginkgo writes, as far as it is needed.
type junit struct {
	Suites []struct {
		Cases []struct {
			Name    string `xml:"name,attr"`
			Status  string `xml:"status,attr"`
			Skipped *struct {
				Message string `xml:"message,attr"`
			} `xml:"skipped"`
		} `xml:"testcase"`
	} `xml:"testsuite"`
}

// Of returns what became of a spec.
func (r Results) Of(spec string) Outcome {
	if o, ok := r[spec]; ok {
		return o
	}
	return NotRun
}

// labels are what ginkgo puts behind a spec's text.
var labels = regexp.MustCompile(` \[sig-[a-z-]+(, [^\]]*)?\]$`)

// Add reads a junit file of e2e.test. Of a spec with more than one result the last counts.
func (r Results) Add(file io.Reader) error {
	var j junit
	if err := xml.NewDecoder(file).Decode(&j); err != nil {
		return fmt.Errorf("read junit file: %w", err)
	}
	for _, suite := range j.Suites {
		for _, c := range suite.Cases {
			text, ok := strings.CutPrefix(c.Name, "[It] ")
			if !ok {
				continue
			}
			text = labels.ReplaceAllString(text, "")
			switch {
			case c.Status == "passed" && (r[text] == Failed || r[text] == Later):
				r[text] = Later
			case c.Status == "passed":
				r[text] = Passed
			case c.Status == "skipped" && (c.Skipped == nil || c.Skipped.Message == "" || c.Skipped.Message == "skipped"):
				// The focus left it out.
			case c.Status == "skipped":
				r[text] = Skipped
			default: // failed, timedout, panicked, interrupted, aborted
				r[text] = Failed
			}
		}
	}
	return nil
}

// Worse returns the specs that fail with ours and pass with theirs.
func Worse(list []Spec, ours, theirs Results) []string {
	var out []string
	for _, s := range list {
		if ours[s.Text] == Failed && theirs[s.Text] == Passed {
			out = append(out, s.Text)
		}
	}
	return out
}
