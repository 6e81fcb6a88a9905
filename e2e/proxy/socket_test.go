// SPDX-License-Identifier: Apache-2.0

//go:build linux

package proxy

import (
	"os"
	"path/filepath"
	"testing"
)

// TestWouldAnswer: only a program that knows the socket is told to have none, and only if nothing else is asked for.
func TestWouldAnswer(t *testing.T) {
	script := func(name, help string) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte("#!/bin/sh\ncat <<.\n"+help+"\n.\n"), 0o755); err != nil { // it is run
			t.Fatal(err)
		}
		return path
	}
	now, earlier := script("nftproxy", "      --socket path   Unix socket"), script("nftproxy", "      --sandbox string")
	for _, tt := range []struct {
		program string
		args    []string
		want    bool
	}{
		{"", []string{"run"}, true},
		{"", []string{"run", "--socket", "/x"}, false},
		{"", []string{"diff"}, false},
		{now, []string{"run", "--manifests", "/x"}, true},
		{now, []string{"run", "--socket=/x"}, false},
		{earlier, []string{"run", "--manifests", "/x"}, false},
		{"/none", []string{"run"}, false},
	} {
		c := Config{Program: tt.program, Args: tt.args}
		if got := c.wouldAnswer(tt.program); got != tt.want {
			t.Errorf("%s %v: %v, want %v", tt.program, tt.args, got, tt.want)
		}
	}
}
