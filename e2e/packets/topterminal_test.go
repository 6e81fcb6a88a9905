// SPDX-License-Identifier: Apache-2.0

//go:build linux

package packets

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/netns/netnstest"
	"github.com/nftproxy/nftproxy/e2e/traffic"
)

// pane is a terminal of 80 columns and 12 lines in which a command of nftproxy runs, kept by a tmux of its own.
type pane struct {
	*world
	t              *testing.T
	tmux, socket   string
	code, errorLog string // files
}

// pane starts a command on the node.
func (w *world) pane(t *testing.T, args ...string) *pane {
	t.Helper()
	dir := t.TempDir()
	p := &pane{w, t, netnstest.Tool(t, "tmux"), filepath.Join(dir, "s"), filepath.Join(dir, "code"), filepath.Join(dir, "errors")}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	words := append([]string{"env", runEnv + "=1", self}, args...)
	for i := range words {
		words[i] = "'" + words[i] + "'"
	}
	shell := fmt.Sprintf("%s 2>%s; echo $? >%s; printf 'the command has ended\\n'; exec sleep 1000", strings.Join(words, " "), p.errorLog, p.code)
	p.do("-f", "/dev/null", "new-session", "-d", "-x", "80", "-y", "12", "env", "-u", "LINES", "-u", "COLUMNS", "sh", "-c", shell)
	t.Cleanup(func() { p.do("kill-server") })
	return p
}

// do has tmux do something and returns what it says. The first call starts it, on the node, as all that runs in it.
func (p *pane) do(args ...string) string {
	p.t.Helper()
	cmd := exec.CommandContext(context.WithoutCancel(p.t.Context()), p.tmux, append([]string{"-S", p.socket}, args...)...)
	cmd.Env = append(os.Environ(), "TERM=xterm", "LC_ALL=C.UTF-8", "TMUX=")
	var out []byte
	err := p.Node.Do(func() (err error) {
		out, err = cmd.CombinedOutput()
		return err
	})
	if err != nil {
		p.t.Fatalf("tmux %s: %v: %s", args[0], err, out)
	}
	return string(out)
}

// shows waits until the terminal shows what matches all patterns.
func (p *pane) shows(patterns ...string) {
	p.t.Helper()
	eventually(p.t, fmt.Sprintf("the terminal shows %q", patterns), func() error {
		text := p.do("capture-pane", "-p")
		for _, pattern := range patterns {
			if !regexp.MustCompile("(?m)" + pattern).MatchString(text) {
				errors, _ := os.ReadFile(p.errorLog)
				return fmt.Errorf("nothing matches %q in\n%s\nits errors: %s", pattern, text, errors)
			}
		}
		return nil
	})
}

func (p *pane) press(keys ...string) { p.t.Helper(); p.do(append([]string{"send-keys"}, keys...)...) }

// ended waits for the end of the command, which must be without a fault, and for the terminal as it was.
func (p *pane) ended() {
	p.t.Helper()
	p.shows(`\Athe command has ended$`)
	if code, err := os.ReadFile(p.code); err != nil || string(code) != "0\n" {
		errors, _ := os.ReadFile(p.errorLog)
		p.t.Errorf("exit code %q, %v: %s", code, err, errors)
	}
}

// TestTopOnTerminal: Services as they are connected to, sorted, unfolded and filtered with keys; the terminal is given back.
func TestTopOnTerminal(t *testing.T) {
	t.Parallel()
	w, socket, busy, _, stop := busyWorld(t)
	defer stop()
	a, b := w.Local[0], w.RemotePods[0]
	top := w.pane(t, "top", "--interval", "500ms", "--socket", socket)
	client := traffic.Client{NS: w.Client.NS}
	busyLine, calmLine := `^test/busy\S* +`+regexp.QuoteMeta(busy.at(netns.IPv4, servicePort).String())+`/tcp +[1-9]`, `^test/calm`
	top.shows(`\Anftproxy top: 2 addresses of Services, every 500ms, by new connections$`, `^SERVICE +ADDRESS +NEW/S +OPEN`, busyLine, calmLine, `^q quit  / filter`)
	top.press("Enter")
	endpoint := func(h netns.Host) string { return `^  endpoint +` + regexp.QuoteMeta(h.V4.String()) }
	top.shows(endpoint(a), endpoint(b))
	top.press("a", "e")
	top.shows(`by name$`, busyLine)
	top.press("/", "c", "a", "l")
	top.shows(`^filter: cal_$`, `1 addresses of Services`, calmLine)
	top.press("Enter", "Down", "p")
	top.shows(`1 addresses of Services, every 500ms, by name, filter cal, paused$`, `^q quit`)
	top.do("resize-window", "-x", "60", "-y", "8")
	top.shows(`^test/calm`, `^q quit`)
	late := w.service("calamity").to(ready(a)) // its name is known as soon as it is there
	w.apply(t, late)
	client.Connect(t.Context(), traffic.TCP, late.at(netns.IPv4, servicePort))
	top.press("p")
	eventually(t, "a new Service", func() error {
		client.Connect(t.Context(), traffic.TCP, late.at(netns.IPv4, servicePort))
		if text := top.do("capture-pane", "-p"); !strings.Contains(text, "test/calamity") {
			return fmt.Errorf("shown is\n%s", text)
		}
		return nil
	})
	w.remove(t, late) // and is gone when it is
	eventually(t, "a Service that has gone", func() error {
		client.Connect(t.Context(), traffic.TCP, late.at(netns.IPv4, servicePort))
		if text := top.do("capture-pane", "-p"); strings.Contains(text, "test/calamity") || !strings.Contains(text, "test/calm") {
			return fmt.Errorf("shown is\n%s", text)
		}
		return nil
	})
	top.press("q")
	top.ended()

	ended := w.pane(t, "top", "--manifests", w.manifests.Dir, "--hostname-override", "node", "--rows", "1", "--sort", "open")
	ended.shows(`by open connections$`, `and 1 more$`)
	ended.press("C-c")
	ended.ended()
}
