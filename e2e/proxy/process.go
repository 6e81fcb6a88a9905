// SPDX-License-Identifier: Apache-2.0

//go:build linux

package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/nftproxy/nftproxy/e2e/netns"
)

// Config says what to run.
type Config struct {
	// Program is the executable. Default: this one, whose main function then has
	// to find Env and act as nftproxy.
	Program string
	Args    []string  // the command line after the program's name
	Env     []string  // added to this process's environment
	NS      *netns.NS // where it runs
	Log     io.Writer // takes its output as it comes, besides Process.Log; may be nil
}

// Process is a running nftproxy.
type Process struct {
	cmd    *exec.Cmd
	log    output
	exited chan struct{}
	err    error // of the exit; valid once exited is closed
}

// Start starts nftproxy. It ends with this process at the latest.
func Start(c Config) (*Process, error) {
	program := c.Program
	if program == "" {
		program = "/proc/self/exe"
	}
	args := c.Args
	if c.wouldAnswer(program) {
		args = append(slices.Clone(args), "--socket=") // those of many namespaces would want the same
	}
	p := &Process{cmd: exec.Command(program, args...), exited: make(chan struct{})}
	p.log.also, p.log.grown = c.Log, make(chan struct{})
	p.cmd.Env = append(os.Environ(), c.Env...)
	p.cmd.Stdout, p.cmd.Stderr = &p.log, &p.log
	// A process group of its own: Ctrl-C is for who started it, and Kill ends what it runs, too.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if err := c.NS.Do(p.cmd.Start); err != nil {
		return nil, fmt.Errorf("start nftproxy in %s: %w", c.NS.Name(), err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.exited)
	}()
	return p, nil
}

// wouldAnswer says whether a program would answer at the socket that is there without an option. An earlier nftproxy does
// not know the option.
func (c *Config) wouldAnswer(program string) bool {
	if len(c.Args) == 0 || c.Args[0] != "run" || slices.ContainsFunc(c.Args, func(a string) bool { return strings.HasPrefix(a, "--socket") }) {
		return false
	}
	if c.Program == "" {
		return true
	}
	help := exec.Command(program, "run", "--help")
	help.Env = append(os.Environ(), c.Env...)
	text, err := help.CombinedOutput()
	return err == nil && bytes.Contains(text, []byte("--socket "))
}

// Pid returns the process's ID.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Log returns what it wrote so far.
func (p *Process) Log() string {
	text, _ := p.log.text()
	return text
}

// WaitLog waits until the log holds the text. It fails when ctx or the process
// ends before.
func (p *Process) WaitLog(ctx context.Context, text string) error {
	for {
		log, grown := p.log.text()
		if strings.Contains(log, text) {
			return nil
		}
		select {
		case <-grown:
		case <-p.exited:
			if strings.Contains(p.Log(), text) {
				return nil
			}
			return fmt.Errorf("nftproxy ended (%w) before it logged %q:\n%s", p.err, text, p.Log())
		case <-ctx.Done():
			return fmt.Errorf("nftproxy did not log %q: %w:\n%s", text, context.Cause(ctx), p.Log())
		}
	}
}

// WaitSynced waits until all that was there at its start is programmed.
func (p *Process) WaitSynced(ctx context.Context) error {
	return p.WaitLog(ctx, "Programmed all services")
}

// Ended says whether it has ended.
func (p *Process) Ended() bool {
	select {
	case <-p.exited:
		return true
	default:
		return false
	}
}

// Wait waits until it ends, and returns the error of its exit code.
func (p *Process) Wait(ctx context.Context) error {
	select {
	case <-p.exited:
		return p.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Stop sends SIGTERM and waits. It fails if the process does not end in netns.Patience, or
// with an exit code that is not 0. A process that has ended already is fine.
func (p *Process) Stop() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop nftproxy: %w", err)
	}
	timer := time.NewTimer(netns.Patience())
	defer timer.Stop()
	select {
	case <-p.exited:
	case <-timer.C:
		p.Kill()
		return fmt.Errorf("nftproxy did not stop in %v:\n%s", netns.Patience(), p.Log())
	}
	if p.err != nil {
		return fmt.Errorf("nftproxy stopped with %w:\n%s", p.err, p.Log())
	}
	return nil
}

// Kill ends the process and the programs it runs at once, as the end of a container
// does, and waits for its end.
func (p *Process) Kill() {
	_ = syscall.Kill(-p.Pid(), syscall.SIGKILL) // it may have ended
	<-p.exited
}

// unseen is a line about a process of root's elsewhere on this machine, of which an ordinary user is told that it cannot be looked at.
var unseen = regexp.MustCompile(`(?m)^nftproxy: process \d+ is named \S+ and is left out: its network namespace cannot be seen .*\n`)

// WithoutUnseen returns what nftproxy wrote, without what it says of processes that are none of the test's.
func WithoutUnseen(out string) string { return unseen.ReplaceAllString(out, "") }

// Run runs nftproxy to its end and returns what it wrote, but for what WithoutUnseen leaves out.
func Run(ctx context.Context, c Config) (string, error) {
	p, err := Start(c)
	if err != nil {
		return "", err
	}
	select {
	case <-p.exited:
	case <-ctx.Done():
		p.Kill()
		return WithoutUnseen(p.Log()), context.Cause(ctx)
	}
	return WithoutUnseen(p.Log()), p.err
}

// output gathers what a process writes.
type output struct {
	also io.Writer

	mu    sync.Mutex
	b     strings.Builder
	grown chan struct{} // closed when more came
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.also != nil {
		_, _ = o.also.Write(b)
	}
	close(o.grown)
	o.grown = make(chan struct{})
	return o.b.Write(b)
}

func (o *output) text() (string, <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String(), o.grown
}
