// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"
)

// The demo shows everything, finds nothing wrong, and leaves nothing behind.
func TestShow(t *testing.T) {
	left := leftovers(t)
	code, out, errOut := showTest(t, options{})
	left()
	if code != 0 || errOut != "" {
		t.Errorf("exit code %d, standard error %q, want 0 and none", code, errOut)
	}
	for _, want := range []string{
		`outside 172\.18\.0\.1`,
		`all services are programmed after `,
		`web +TCP +10\.96\.0\.2:80 +pod node outside +18 +p1:6 p3:6 p4:6 +exact round robin`,
		`dns +UDP +\[fd00:10:96::3\]:53 +pod node outside +12 +p2:6 p5:6 +exact round robin`,
		`sigtran +SCTP +\[fd00:10:96::4\]:2905 +pod node outside +18 +p1:6 p3:6 p4:6 +exact round robin`,
		`cache +TCP +10\.96\.0\.5:6379 +pod node outside +6 +p5:6 +exact round robin`,
		`idle +SCTP +10\.96\.0\.6:9000 +pod node outside +6 +- +refused, as it should`,
		`p2 becomes a backend of web: in effect \d+ ms`,
		`web +TCP +\[fd00:10:96::2\]:443 +pod node outside +24 +p1:6 p2:6 p3:6 p4:6 +exact round robin`,
		`p1 is taken away: in effect \d+ ms`,
		`web +TCP +10\.96\.0\.2:80 +pod node outside +18 +p2:6 p3:6 p4:6 +exact round robin`,
		`all backends of web go away: in effect \d+ ms`,
		`web +TCP +10\.96\.0\.2:80 +pod node outside +6 +- +refused, as it should`,
		`Every client heard 'connection refused' within `,
		`p1, p3 and p4 are back: in effect \d+ ms`,
		`\d+ new connections meanwhile: none lost, exact round robin throughout`,
		`6 open connections with \d+ requests: none lost, always the same backend`,
		`All 40 verdicts are as they should be: \d+ connections in `,
	} {
		if !regexp.MustCompile(`(?m)` + want).MatchString(out) {
			t.Errorf("nothing matches %q", want)
		}
	}
	if n := strings.Count(out, roundRobin+"\n"); n != 12+3*4 {
		t.Errorf("%d rows are %s, want 24", n, roundRobin)
	}
	if n := strings.Count(out, refused+"\n"); n != 6+4 {
		t.Errorf("%d rows are %s, want 10", n, refused)
	}
	for line := range strings.Lines(out) {
		if n := utf8.RuneCountInString(line) - 1; n > 100 || strings.Contains(line, "\x1b") {
			t.Errorf("%d columns, want 100 and no colours: %q", n, line)
		}
	}
	if t.Failed() {
		t.Logf("the output:\n%s", out)
	}
}

// An endpoint that nobody serves makes a wrong verdict, and that the exit code 1.
func TestWrong(t *testing.T) {
	dir := t.TempDir()
	const manifest = `{apiVersion: v1, kind: Service, metadata: {name: half}, spec: {clusterIP: 10.96.1.1, ports: [{port: 80}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: half-1, labels: {kubernetes.io/service-name: half}}
addressType: IPv4
ports: [{port: 8080}]
endpoints: [{addresses: [10.244.1.2]}, {addresses: [10.244.1.10]}]
`
	if err := os.WriteFile(filepath.Join(dir, "half.yaml"), []byte(manifest), 0o600); err != nil {
		t.Fatal(err)
	}
	left := leftovers(t)
	code, out, errOut := showTest(t, options{from: dir})
	left()
	if code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	for _, want := range []string{
		"pod node outside  12     p1:6 10.244.1.10:0  10.244.1.10 got 0, want 2 (2 answered, 2 refused)",
		"1 of 1 verdicts are WRONG",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("the output does not contain %q", want)
		}
	}
	if want := "Programmed all services"; !strings.Contains(errOut, want) {
		t.Errorf("standard error %q, want the log of nftproxy", errOut)
	}
	if t.Failed() {
		t.Logf("the output:\n%s", out)
	}
}

// An error before anything is shown leaves nothing, either.
func TestErrors(t *testing.T) {
	broken := t.TempDir()
	if err := os.WriteFile(filepath.Join(broken, "broken.yaml"), []byte("kind: Pod\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	rows := []struct {
		name string
		o    options
		says string
	}{
		{"no such directory", options{from: "/nowhere"}, "/nowhere"},
		{"an empty directory", options{from: t.TempDir()}, "no Service with a cluster IP"},
		{"a broken manifest", options{from: broken}, "broken.yaml:1: "},
		{"a program that ends", options{bin: "/bin/false"}, "nftproxy ended"},
		{"no program", options{bin: "/nowhere"}, "/nowhere"},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			left := leftovers(t)
			code, _, errOut := showTest(t, r.o)
			left()
			if code != 1 || !strings.HasPrefix(errOut, "demo: ") || !strings.Contains(errOut, r.says) {
				t.Errorf("exit code %d, standard error %q, want 1 and one that says %q", code, errOut, r.says)
			}
		})
	}
}

// showTest runs the demo in this process, with this program as nftproxy by default.
func showTest(t *testing.T, o options) (code int, out, errOut string) {
	t.Helper()
	t.Setenv(actEnv, "1")
	if o.bin == "" {
		o.bin = self
	}
	var stdout, stderr bytes.Buffer
	code = show(t.Context(), o, &stdout, &stderr)
	return code, stdout.String(), stderr.String()
}

// leftovers gives the test a directory for temporary files. What it returns checks
// that since then nothing was left: file, process, or namespace.
func leftovers(t *testing.T) (check func()) {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	before := held(t)
	return func() {
		t.Helper()
		files, err := os.ReadDir(dir)
		if err != nil || len(files) > 0 {
			t.Errorf("files are left: %v %v", files, err)
		}
		if after := held(t); after != before {
			t.Errorf("held before and after:\n%s\n%s", before, after)
		}
	}
}

// held says how many child processes and open namespaces this process has.
func held(t *testing.T) string {
	t.Helper()
	children, namespaces := 0, 0
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		stat, _ := os.ReadFile(path) // nothing, if the process has ended
		_, fields, _ := strings.Cut(string(stat), ") ")
		if parent := strings.Fields(fields); len(parent) > 1 && parent[1] == fmt.Sprint(os.Getpid()) {
			children++
		}
	}
	files, _ := filepath.Glob("/proc/self/fd/*")
	for _, path := range files {
		if to, err := os.Readlink(path); err == nil && strings.HasPrefix(to, "net:") {
			namespaces++
		}
	}
	return fmt.Sprintf("%d child processes, %d namespaces", children, namespaces)
}
