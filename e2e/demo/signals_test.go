// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/netns/netnstest"
	"github.com/nftproxy/nftproxy/e2e/proxy"
)

// A signal ends the demo wherever it is, and everything is removed.
func TestSignals(t *testing.T) {
	const starting, loading, kept = "A cluster of", "under load", "from here on"
	rows := []struct {
		sig  syscall.Signal
		at   string // a text of the output
		keep bool
		code int
	}{
		{syscall.SIGINT, starting, false, 1},
		{syscall.SIGTERM, loading, false, 1},
		{syscall.SIGHUP, loading, true, 1},
		{syscall.SIGINT, kept, true, 0},
		{syscall.SIGTERM, kept, true, 0},
	}
	for _, r := range rows {
		t.Run(fmt.Sprintf("%v at %s", r.sig, r.at), func(t *testing.T) {
			if r.sig == syscall.SIGHUP && signal.Ignored(r.sig) {
				t.Skip("started under nohup, as the demo would be")
			}
			left := leftovers(t)
			p := startDemo(t, r.keep)
			p.waitFor(t, r.at)
			if err := p.cmd.Process.Signal(r.sig); err != nil {
				t.Fatal(err)
			}
			if code := p.end(t); code != r.code {
				t.Errorf("exit code %d, want %d", code, r.code)
			}
			left()
			p.wantGone(t)
		})
	}
}

// A reader that goes away, as head does, ends it, too.
func TestBrokenPipe(t *testing.T) {
	left := leftovers(t)
	p := startDemo(t, false)
	p.waitFor(t, "A cluster of")
	_ = p.out.Close()
	if code := p.end(t); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	left()
	p.wantGone(t)
}

// What --keep says to do works, each line.
func TestKeep(t *testing.T) {
	if netns.InUserNamespace() {
		t.Skip("the command that enters from outside a user namespace does not work inside")
	}
	netnstest.Tool(t, "ip")
	p := startDemo(t, true)
	p.waitFor(t, "from here on")
	ends := strings.NewReplacer(" trace --to", " trace --for 100ms --to", " top", " top --once --interval 100ms")
	for _, tt := range []struct{ command, says string }{
		{"exec 3<>/dev/tcp/10.96.0.5/6379;", "hello 10.244.2.4:6379 10.244.1.10:"}, {"get services -A", "NAMESPACE "}, {"get endpoints -A", "NAMESPACE "}, {"history", "20"}, {"describe service demo/cache", "Name: "},
		{"explain demo/cache", "Service demo/cache, 6379/tcp, IPv4\n"}, {"explain demo/cache --probe", "Service demo/cache, 6379/tcp, IPv4\n"},
		{"explain demo/cache --probe --netns", "Service demo/cache, 6379/tcp, IPv4\n"},
		{"trace --to demo/cache", ""}, {"top", "SERVICE "}, {"check", "ok       kernel "}, {"diff", "equal: "},
		{"dump --kernel", "table ip nftproxy {"}, {"nft list ruleset", "table ip nftproxy {"},
	} {
		i := slices.IndexFunc(p.log, func(line string) bool {
			return strings.Contains(line+" ", " "+tt.command+" ") || strings.Contains(line, "'"+tt.command)
		})
		if i < 0 {
			t.Fatalf("no line has the command %q:\n%s", tt.command, strings.Join(p.log, "\n"))
		}
		cmd := exec.CommandContext(t.Context(), netnstest.Tool(t, "bash"), "-c", ends.Replace(p.log[i]))
		cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin", actEnv+"=1")
		if answer, err := cmd.CombinedOutput(); err != nil || !strings.HasPrefix(proxy.WithoutUnseen(string(answer)), tt.says) {
			t.Errorf("%s: %v, %q, want it to begin with %q", p.log[i], err, answer, tt.says)
		}
	}
	p.pageOpens(t)
	if err := p.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if code := p.end(t); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
}

// pageOpens runs the line that serves the page, which has to be reached from here, outside the node.
func (p *process) pageOpens(t *testing.T) {
	t.Helper()
	i := slices.IndexFunc(p.log, func(line string) bool { return strings.Contains(line, " ui --page-netns ") })
	if i < 0 {
		t.Fatalf("no line serves the page:\n%s", strings.Join(p.log, "\n"))
	}
	words := strings.Fields(p.log[i])
	program, err := exec.LookPath(words[0])
	if err != nil {
		program = netnstest.Tool(t, words[0])
	}
	cmd := exec.CommandContext(t.Context(), program, words[1:]...)
	cmd.Env = append(os.Environ(), actEnv+"=1")
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = cmd.Process.Kill(), cmd.Wait() }()
	url, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("%s: %v", p.log[i], err)
	}
	for path, want := range map[string]string{"": "<!doctype html>", "nodes": `"trace":true`, "api/0/v1/services/demo/cache": `"name":"cache"`} {
		answer, err := http.Get(strings.TrimSpace(url) + path)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(answer.Body)
		_ = answer.Body.Close()
		if err != nil || !strings.Contains(string(text), want) {
			t.Errorf("%s%s: %v, no %q in %.300s", strings.TrimSpace(url), path, err, want, text)
		}
	}
}

// process is a demo of its own.
type process struct {
	cmd   *exec.Cmd
	out   io.ReadCloser
	lines *bufio.Scanner
	name  string   // prefix of the namespaces' names
	log   []string // lines read so far
}

func startDemo(t *testing.T, keep bool) *process {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	name := fmt.Sprintf("nftproxy-demo-test%d", os.Getpid())
	bin := self
	if !netns.InUserNamespace() { // else others than this process can run it only by its path
		program, err := os.Executable()
		bin = filepath.Join(t.TempDir(), "nftproxy") // the process's name, by which others know it
		if err = errors.Join(err, os.Symlink(program, bin)); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(ctx, self, "--bin", bin, "--name", name, fmt.Sprintf("--keep=%v", keep))
	cmd.Env = append(os.Environ(), actEnv+"=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = cmd.Process.Kill(), cmd.Wait() })
	return &process{cmd: cmd, out: out, lines: bufio.NewScanner(out), name: name}
}

// waitFor reads the output up to a line with a text.
func (p *process) waitFor(t *testing.T, text string) {
	t.Helper()
	for p.lines.Scan() {
		p.log = append(p.log, p.lines.Text())
		if strings.Contains(p.lines.Text(), text) {
			return
		}
	}
	t.Fatalf("the demo ended before it wrote %q:\n%s", text, strings.Join(p.log, "\n"))
}

// end waits until the demo has ended and returns its exit code.
func (p *process) end(t *testing.T) int {
	t.Helper()
	for p.lines.Scan() {
	}
	err := p.cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Error(err)
	}
	return p.cmd.ProcessState.ExitCode()
}

// wantGone checks that no namespace has a name.
func (p *process) wantGone(t *testing.T) {
	t.Helper()
	if left, _ := filepath.Glob("/run/netns/" + p.name + "*"); len(left) > 0 {
		t.Errorf("names are left: %s", left)
	}
}
