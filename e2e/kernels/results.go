// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// result is what a guest's console says, as it is kept in a file.
type result struct {
	about
	Slowness []string            `json:"slowness,omitempty"`
	Has      map[string]string   `json:"has"` // yes or no, by the words of init.sh
	Check    checked             `json:"check"`
	Suites   map[string]*outcome `json:"suites"`

	suite string        // that is running
	since time.Duration // when it began
}

// about says what was run, and how that went.
type about struct {
	Kernel  string        `json:"kernel"`
	Series  string        `json:"series"` // as it was asked for
	SCTP    bool          `json:"sctp"`   // whether the guest was to have the kernel's
	Version string        `json:"version"`
	QEMU    string        `json:"qemu,omitempty"`  // the emulator's version, such as 10.0.13; old results lack it
	Brief   bool          `json:"brief,omitempty"` // only the tests of the table's rows ran
	Some    bool          `json:"some,omitempty"`  // of some suites only some tests ran
	Asked   []string      `json:"asked"`           // the suites that were to run
	Began   time.Time     `json:"began"`
	Took    time.Duration `json:"took"`
	Error   string        `json:"error,omitempty"` // why the guest did not come to its end
}

// checked is what `nftproxy check` says.
type checked struct {
	Code   string   `json:"code"`
	Found  int      `json:"found"` // how many features of nftables
	Failed []string `json:"failed,omitempty"`
	Warns  []string `json:"warns,omitempty"`
}

// outcome is how a suite ended. The tests in it are no subtests.
type outcome struct {
	Code    string   `json:"code"`
	Seconds float64  `json:"seconds"`
	Passed  []string `json:"passed,omitempty"`
	Failed  []string `json:"failed,omitempty"`
	Skipped []string `json:"skipped,omitempty"`
}

func newResult(kernel string) *result {
	return &result{about: about{Kernel: kernel}, Has: map[string]string{}, Suites: map[string]*outcome{}}
}

// read takes in a line of the console, and when it came.
func (r *result) read(line string, at time.Duration) {
	words := strings.Fields(line)
	switch {
	case strings.HasPrefix(line, "=== "):
		r.mark(words[1:], at)
	case r.suite == "":
		r.readCheck(line, words)
	case strings.HasPrefix(line, "--- ") && len(words) > 2 && r.Suites[r.suite] != nil:
		r.Suites[r.suite].note(words[1], words[2])
	}
}

// mark takes in what init.sh says.
func (r *result) mark(words []string, at time.Duration) {
	switch {
	case len(words) == 3 && words[0] == "has":
		r.Has[words[1]] = words[2]
	case len(words) == 2 && words[0] == "slowness":
		r.Slowness = append(r.Slowness, words[1])
	case len(words) == 2 && words[0] == "check":
		r.Check.Code = words[1]
	case len(words) == 2 && words[0] == "begin":
		r.suite, r.since = words[1], at
		r.Suites[r.suite] = &outcome{}
	case len(words) == 3 && words[0] == "end" && r.Suites[words[1]] != nil:
		r.Suites[words[1]].Code, r.Suites[words[1]].Seconds = words[2], (at - r.since).Seconds()
	}
}

// readCheck takes in a line of `nftproxy check`: what it fails at, and what it says of nftables.
func (r *result) readCheck(line string, words []string) {
	if len(words) < 2 {
		return
	}
	nftables := strings.HasPrefix(words[1], "nftables")
	switch {
	case words[0] == "failed":
		r.Check.Failed = append(r.Check.Failed, strings.TrimSpace(line))
	case words[0] == "ok" && nftables:
		r.Check.Found++
	case words[0] == "warning" && nftables:
		r.Check.Warns = append(r.Check.Warns, strings.TrimSpace(line))
	}
}

func (o *outcome) note(action, test string) {
	switch action {
	case "PASS:":
		o.Passed = append(o.Passed, test)
	case "SKIP:":
		o.Skipped = append(o.Skipped, test)
	case "FAIL:":
		o.Failed = append(o.Failed, test)
	}
}

// good says whether nothing fails.
func (c checked) good() bool { return c.Code == "0" && c.Found > 0 }

// good says whether all suites ran, and none failed.
func (r *result) good() bool {
	return r.Check.good() && r.Error == "" &&
		!slices.ContainsFunc(r.Asked, func(s string) bool { return r.Suites[s] == nil || r.Suites[s].Code != "0" })
}

// cell returns what the table says of a suite.
func (o *outcome) cell() string {
	if o == nil {
		return "-"
	}
	verdict := map[string]string{"0": "ok", "": "not done"}[o.Code]
	if verdict == "" {
		verdict = "failed"
	}
	if len(o.Passed)+len(o.Failed)+len(o.Skipped) == 0 {
		return verdict
	}
	text := fmt.Sprintf("%s: %d passed", verdict, len(o.Passed))
	if len(o.Failed) > 0 {
		text += fmt.Sprintf(", %d failed", len(o.Failed))
	}
	if len(o.Skipped) > 0 {
		text += fmt.Sprintf(", %d skipped", len(o.Skipped))
	}
	return text
}

// path is where the result is kept in a directory.
func (r *result) path(dir string) string {
	return filepath.Join(dir, fmt.Sprintf("%s-sctp-%v.json", r.Series, r.SCTP))
}

// add adds to the result what is kept in a directory of the same kernel and the same nftproxy: tests that did not run this time.
func (r *result) add(dir string) error {
	data, err := os.ReadFile(r.path(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	old := newResult("")
	if err == nil {
		err = json.Unmarshal(data, old)
	}
	if err != nil || old.Kernel != r.Kernel || old.Version != r.Version {
		return err
	}
	r.Took += old.Took
	r.Slowness = append(old.Slowness, r.Slowness...)
	for name, o := range old.Suites {
		if now := r.Suites[name]; now != nil {
			now.add(o)
		} else {
			r.Suites[name] = o
		}
	}
	return nil
}

// add adds the tests of an earlier run that are not among those of this one.
func (o *outcome) add(old *outcome) {
	now := slices.Concat(o.Passed, o.Failed, o.Skipped)
	others := func(list []string) []string {
		return slices.DeleteFunc(slices.Clone(list), func(name string) bool { return slices.Contains(now, name) })
	}
	o.Passed = append(o.Passed, others(old.Passed)...)
	o.Failed = append(o.Failed, others(old.Failed)...)
	o.Skipped = append(o.Skipped, others(old.Skipped)...)
	o.Seconds += old.Seconds
	if o.Code == "0" && len(o.Failed) > 0 {
		o.Code = old.Code
	}
}

// save keeps the result in a directory, in place of that of an earlier run of the same series.
func (r *result) save(dir string) error {
	data, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return err
	}
	if err = os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(r.path(dir), data, 0o644) // anybody may read it
}

// loadResults returns those of a directory, the oldest kernel first, and the kernel with its SCTP before the one without.
func loadResults(dir string) ([]*result, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		return nil, err
	}
	var list []*result
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			return nil, err
		}
		r := newResult("")
		if err = json.Unmarshal(data, r); err != nil {
			return nil, fmt.Errorf("read %s: %w", f, err)
		}
		list = append(list, r)
	}
	slices.SortFunc(list, func(a, b *result) int {
		if c := slices.Compare(numbers(a.Kernel), numbers(b.Kernel)); c != 0 {
			return c
		}
		if a.SCTP {
			return -1
		}
		return 1
	})
	return list, nil
}
