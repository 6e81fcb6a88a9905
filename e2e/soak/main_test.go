// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nftproxy/nftproxy/e2e/controlplane"
)

// executable is built by make e2e.
const executable = "../../bin/nftproxy"

// actEnv makes the test's executable act as soak.
const actEnv = "NFTPROXY_TEST_SOAK"

func TestMain(m *testing.M) {
	controlplane.RunChild()
	if os.Getenv(actEnv) != "" {
		main()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// TestSmallest soaks for half a minute with everything in it: nothing may be wrong, but for memory, which does
// not settle in that time.
func TestSmallest(t *testing.T) {
	log := &bytes.Buffer{}
	res, err := soak(t.Context(), smallestPlan(), executable, log)
	t.Logf("its output:\n%s", log)
	must(t, err)
	for _, row := range res.Rows {
		t.Logf("%s: %s", row.What, row.Found)
		if row.Bad && !strings.HasPrefix(row.What, "Memory") && !strings.HasPrefix(row.What, "Pace") {
			t.Errorf("%s: %s", row.What, row.Found)
		}
	}
	for _, f := range res.Failures {
		t.Errorf("%s", f)
	}
	if len(res.Restarts) == 0 {
		t.Error("the API server was not restarted")
	}
	for _, column := range []string{colMemory, colGoroutines, colDescriptors, colConnections, colChanges, colForeign} {
		if res.last(column) <= 0 {
			t.Errorf("the column %s has no figures: %v", column, res.Series[column])
		}
	}
	dir := t.TempDir()
	must(t, res.write(dir))
	again, err := load(filepath.Join(dir, resultsFile))
	must(t, err)
	if again.section() != res.section() {
		t.Errorf("what was saved and loaded is\n%s, was\n%s", again.section(), res.section())
	}
}

// TestSignal: a signal in the middle ends it, with a report of what there was, and nothing else stays.
func TestSignal(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-smallest", "-out", filepath.Join(dir, "report"), "-nftproxy", executable)
	cmd.Env = append(os.Environ(), actEnv+"=1", "TMPDIR="+dir)
	out := &bytes.Buffer{}
	cmd.Stdout, cmd.Stderr = out, out
	must(t, cmd.Start())
	waitUntil(t, func() bool { return ofUs(dir, "nftproxy run") && ofUs(dir, "kube-apiserver") })
	must(t, cmd.Process.Signal(syscall.SIGINT))
	err := cmd.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("%v, want exit code 1:\n%s", err, out)
	}
	waitUntil(t, func() bool { return !ofUs(dir, "") }) // those that it killed are going
	if files, _ := filepath.Glob(dir + "/nftproxy-*"); len(files) > 0 {
		t.Errorf("files are left: %v", files)
	}
}

// ofUs says whether a process has a folder in its environment and a text in its command line.
func ofUs(dir, line string) bool {
	paths, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, path := range paths {
		environ, _ := os.ReadFile(path) // nothing, if the process has ended
		if !strings.Contains(string(environ), dir) {
			continue
		}
		text, _ := os.ReadFile(filepath.Join(filepath.Dir(path), "cmdline"))
		if strings.Contains(strings.ReplaceAll(string(text), "\x00", " "), line) {
			return true
		}
	}
	return false
}

func waitUntil(t *testing.T, what func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !what(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it took more than two minutes")
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
