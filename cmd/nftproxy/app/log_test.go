// SPDX-License-Identifier: Apache-2.0

package app

import (
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// jsonLines parses a log of which each line is to be JSON.
func jsonLines(t *testing.T, log string) (out []map[string]any) {
	t.Helper()
	for line := range strings.Lines(log) {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil || m["msg"] == nil || m["ts"] == nil {
			t.Errorf("this line is not JSON of a log: %q (%v)", line, err)
		}
		out = append(out, m)
	}
	if len(out) == 0 {
		t.Error("nothing was logged")
	}
	return out
}

// TestLogJSON: with --logging-format json each line is JSON, and what is wrong with the source is an error.
func TestLogJSON(t *testing.T) {
	n := newNode(t)
	dir := t.TempDir()
	must(t, os.CopyFS(dir, os.DirFS("testdata/services")))
	must(t, os.WriteFile(filepath.Join(dir, "broken.yaml"), []byte("kind: Nonsense\n"), 0o600))
	p := n.start("--manifests", dir, "--logging-format", "json", "--healthz-port", "10255", "--proxy-mode", "iptables")
	must(t, p.WaitLog(n.ctx, "Programmed all services"))
	must(t, p.Stop())
	broken := false
	for _, line := range jsonLines(t, p.Log()) {
		text, _ := line["err"].(string)
		broken = broken || strings.Contains(text, "broken.yaml")
	}
	if !broken {
		t.Errorf("no error is about broken.yaml:\n%s", p.Log())
	}
	if !strings.Contains(p.Log(), "deprecated") {
		t.Errorf("nothing is said of a deprecated flag:\n%s", p.Log())
	}
}

// TestFaultJSON: so is the last line, whatever ended the program, and whatever asked for JSON.
func TestFaultJSON(t *testing.T) {
	config := filepath.Join(t.TempDir(), "config")
	must(t, os.WriteFile(config, []byte(configHead+"logging: {format: json}\nbindAddress: nowhere\n"), 0o600))
	for _, args := range []string{
		"--logging-format=json --manifests /does/not/exist --healthz-bind-address= --metrics-bind-address=",
		"--logging-format=json --no-such-flag",
		"--no-such-flag --logging_format json",
		"--logging-format json --oom-score-adj much",
		"--logging-format=json --cluster-cidr much",
		"--logging-format=json --config /does/not/exist",
		"--logging-format=json --manifests x --master y",
		"--logging-format=json --probe-bind-address 10246",
		"--logging-format=json --healthz-bind-address nowhere --metrics-port 100000",
		"--logging-format=json argument",
		"--config " + config,
	} {
		code, _, stderr := run(t, append([]string{"run"}, strings.Fields(args)...)...)
		if code == 0 {
			t.Errorf("%s: no error", args)
		}
		lines := jsonLines(t, stderr)
		if text, _ := lines[len(lines)-1]["err"].(string); text == "" {
			t.Errorf("%s: the last line has no error: %s", args, stderr)
		}
	}
	if _, _, stderr := run(t, "run", "--logging-format=text", "--no-such-flag"); !strings.HasPrefix(stderr, "nftproxy: ") {
		t.Errorf("as text: %s", stderr)
	}
}

// TestLogReaderGone: the node is programmed even when nobody reads the log any more.
func TestLogReaderGone(t *testing.T) {
	for _, format := range []string{"text", "json"} {
		n := newNode(t)
		dir := t.TempDir()
		cmd := exec.Command(n.program, "run", "--manifests", dir, "--hostname-override", "here", "--healthz-bind-address", "127.0.0.1:10256",
			"--metrics-bind-address", "", "--socket", "", "--v", "2", "--logging-format", format)
		cmd.Env = append(os.Environ(), runEnv+"=1")
		r, w, err := os.Pipe()
		must(t, err)
		cmd.Stdout, cmd.Stderr = w, w
		must(t, n.Do(cmd.Start))
		_ = w.Close()
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		t.Cleanup(func() { _ = cmd.Process.Kill() })
		_, err = io.ReadFull(r, make([]byte, 1)) // it logs
		must(t, err)
		must(t, r.Close())
		await := func(what string, there bool) {
			t.Helper()
			for {
				state, err := n.run("dump", "--kernel")
				if err == nil && strings.Contains(state, "default/web") == there {
					return
				}
				select {
				case err = <-ended:
					t.Fatalf("%s: it ended: %v", format, err)
				case <-n.ctx.Done():
					t.Fatalf("%s: the Service is not %s: %v", format, what, err)
				case <-time.After(20 * time.Millisecond):
				}
			}
		}
		must(t, os.CopyFS(dir, os.DirFS("testdata/services")))
		await("programmed", true)
		must(t, os.Remove(filepath.Join(dir, "web.yaml"))) // after it has logged what it did
		await("removed", false)
	}
}

// TestListenAddresses: what can never be listened at ends the start, and says so.
func TestListenAddresses(t *testing.T) {
	for _, flag := range []string{"--probe-bind-address", "--healthz-bind-address", "--metrics-bind-address"} {
		for _, address := range []string{"10246", ":10246", "nowhere", "1.2.3.4:", "1.2.3.4:0", "1.2.3.4:65536", "1.2.3.4:http", "[::1", "::1]:80", "host:80", "1.2.3.4:80:90"} {
			code, _, stderr := run(t, "run", "--manifests", "testdata/services", flag, address)
			if code == 0 || !strings.Contains(stderr, "must be an IP address and a port") && !strings.Contains(stderr, "is not an IP address and a port") {
				t.Errorf("%s %s: %d %s", flag, address, code, stderr)
			}
		}
	}
}
