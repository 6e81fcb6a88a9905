// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A signal ends bench wherever it is, and nothing of it stays: no process, and with them no
// namespace, no control group, no file but the report.
func TestSignals(t *testing.T) {
	for _, c := range []struct {
		sig syscall.Signal
		at  string // what the command line of a process of bench's holds
	}{
		{syscall.SIGHUP, "kube-apiserver --etcd-servers"},
		{syscall.SIGINT, "nftproxy run"},
		{syscall.SIGTERM, "kube-proxy --proxy-mode"},
	} {
		t.Run(fmt.Sprintf("%v when there is %s", c.sig, c.at), func(t *testing.T) {
			if c.sig == syscall.SIGHUP && signal.Ignored(c.sig) {
				t.Skip("started under nohup, as bench would be")
			}
			dir, groups := t.TempDir(), controlGroups()
			cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-quick", "-out", filepath.Join(dir, "report"),
				"-nftproxy", executables.nftproxy, "-kube-proxy", executables.kubeProxy)
			cmd.Env = append(os.Environ(), actEnv+"=1", "TMPDIR="+dir)
			out := &bytes.Buffer{}
			cmd.Stdout, cmd.Stderr = out, out
			must(t, cmd.Start())
			isThere := func(line string) bool { return strings.Contains(line, c.at) }
			waitUntil(t, func() bool { return slices.ContainsFunc(processes(dir), isThere) })
			must(t, cmd.Process.Signal(c.sig))
			if err := cmd.Wait(); cmd.ProcessState.ExitCode() != 1 {
				t.Errorf("%v, want exit code 1:\n%s", err, out)
			}
			waitUntil(t, func() bool { return len(processes(dir)) == 0 }) // those that it killed are going
			if files, _ := filepath.Glob(dir + "/nftproxy-*"); len(files) > 0 {
				t.Errorf("files are left: %v", files)
			}
			if left := controlGroups(); !slices.Equal(left, groups) {
				t.Errorf("control groups are left: %s", left)
			}
		})
	}
}

// processes returns the command lines of those that have a folder in their environment.
func processes(dir string) []string {
	var out []string
	paths, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, path := range paths {
		environ, _ := os.ReadFile(path) // nothing, if the process has ended
		if !strings.Contains(string(environ), dir) {
			continue
		}
		line, _ := os.ReadFile(filepath.Join(filepath.Dir(path), "cmdline"))
		out = append(out, strings.ReplaceAll(string(line), "\x00", " "))
	}
	return out
}

func controlGroups() []string {
	var out []string
	for _, root := range []string{cgroups, cgroups + "/memory"} {
		found, _ := filepath.Glob(root + "/nftproxy-bench-*")
		out = append(out, found...)
	}
	return out
}

func waitUntil(t *testing.T, what func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !what(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it took more than a minute")
		}
	}
}
