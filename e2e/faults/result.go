// SPDX-License-Identifier: Apache-2.0

//go:build linux

package faults

import (
	"encoding/json"
	"fmt"
	"os"
	"testing"
	"time"
)

// How much is done is said in the environment; see the package's comment.
const (
	AmountEnv  = "NFTPROXY_FAULTS"
	ResultsEnv = "NFTPROXY_FAULTS_RESULTS"
)

// Amount returns one of three by how much is to be done.
func Amount[T any](short, part, all T) T {
	switch os.Getenv(AmountEnv) {
	case "part":
		return part
	case "all":
		return all
	}
	return short
}

// Result is what a fault did to traffic.
type Result struct {
	// Row groups faults as the table does; Fault says which one this was, and how often it was done.
	Row, Fault string
	Counts     Counts `json:"-"`
	// Right is how long it took until the kernel was right; 0: it was all the time.
	Right time.Duration
	// Note says what else was measured.
	Note string
	// Good says that all was as it must be.
	Good bool
}

// line is a Result as it is in the file.
type line struct {
	Result
	Connections, Failed, Stalled, Direct, DirectStalled, Open, Lost int
	Longest                                                         time.Duration
}

// Record notes what became of a fault: in the test's log, and in the file of results if there is one. It fails the test if
// a connection failed or an open one was lost.
func Record(t testing.TB, r Result) {
	t.Helper()
	c := &r.Counts
	if err := c.Err(); err != nil {
		t.Errorf("%s: %v", r.Fault, err)
	}
	Note(t, r)
}

// Note does as Record, for faults that no proxy could keep from users.
func Note(t testing.TB, r Result) {
	t.Helper()
	c := &r.Counts
	t.Logf("%s: %s: %d connections, %d failed, %d stalled, the longest took %v; %d open, %d lost; right after %v; %s",
		r.Row, r.Fault, c.Connections, c.Failed, c.Stalled, c.Longest.Round(time.Millisecond), c.Open, c.Lost, r.Right.Round(time.Millisecond), r.Note)
	path := os.Getenv(ResultsEnv)
	if path == "" {
		return
	}
	r.Good = !t.Failed()
	text, err := json.Marshal(line{r, c.Connections, c.Failed, c.Stalled, c.Direct, c.DirectStalled, c.Open, c.Lost, c.Longest})
	if err == nil {
		err = appendLine(path, text)
	}
	if err != nil {
		t.Error(fmt.Errorf("record a result: %w", err))
	}
}

func appendLine(path string, text []byte) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644) // for everybody to read
	if err != nil {
		return err
	}
	_, err = f.Write(append(text, '\n'))
	if closing := f.Close(); err == nil {
		err = closing
	}
	return err
}
