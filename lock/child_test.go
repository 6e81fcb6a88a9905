// SPDX-License-Identifier: Apache-2.0

package lock

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nftproxy/nftproxy/e2e/netns"
)

// childEnv makes the test binary a process that does what the variable says, on "nftproxy".
const childEnv = "NFTPROXY_LOCK_CHILD"

func TestMain(m *testing.M) {
	if what := os.Getenv(childEnv); what != "" {
		if err := childMain(what); err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
		return
	}
	os.Exit(netns.Main(m.Run))
}

// childMain does something until its standard input ends.
func childMain(what string) error {
	what, argument, _ := strings.Cut(what, " ")
	switch what {
	case "listen": // at the name of another's socket
		l, err := listenAt(argument)
		if err != nil {
			return err
		}
		defer l.Close()
		fmt.Println("listening")
	case "ask":
		p, err := dial(argument)
		if err != nil {
			return err
		}
		a, err := p.ask()
		if err != nil {
			return err
		}
		fmt.Println("answer", a.Self.Version)
	default:
		return childLock(what, argument)
	}
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

// childLock takes the lock. Of kind old it is as on a kernel whose tables have no owners, which refuses the flag.
func childLock(kind, version string) error {
	var out sync.Mutex
	say := func(words ...any) {
		out.Lock()
		defer out.Unlock()
		fmt.Println(words...)
	}
	l, err := New(Config{Table: "nftproxy", Version: version, Ready: func() bool { return true },
		Waits: func(p Process, err error) {
			say("waits", p.PID, p.Version, err)
		},
		Trouble: func(err error) { say("trouble", err) }})
	if err != nil {
		return err
	}
	if kind == "old" {
		l.locker.ownerFlag = 1 << 31 // which no kernel knows
	}
	if err := l.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(ended)
	}()
	select {
	case <-l.Held():
		say("held")
	case <-ended:
		return l.Close()
	}
	select {
	case err := <-l.Lost():
		say("lost", err)
		<-ended
	case <-ended:
	}
	return l.Close()
}

// child is such a process.
type child struct {
	*exec.Cmd
	t     testing.TB
	input io.WriteCloser
	lines chan string // all that it says; closed at its end
}

// start starts a child in a namespace.
func start(t testing.TB, ns *netns.NS, what string, attr ...func(*syscall.SysProcAttr)) *child {
	t.Helper()
	c := &child{Cmd: exec.Command("/proc/self/exe"), t: t, lines: make(chan string, 100)}
	c.Env = append(os.Environ(), childEnv+"="+what)
	c.Dir = "/"
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	for _, set := range attr {
		set(c.SysProcAttr)
	}
	var err error
	c.input, err = c.StdinPipe()
	must(t, err)
	output, err := c.StdoutPipe()
	must(t, err)
	must(t, ns.Do(c.Cmd.Start))
	go func() {
		defer close(c.lines)
		for s := bufio.NewScanner(output); s.Scan(); {
			c.lines <- s.Text()
		}
	}()
	t.Cleanup(c.kill)
	return c
}

func (c *child) kill() {
	_ = c.Process.Kill()
	_ = c.Wait()
}

// end ends it as SIGTERM ends nftproxy.
func (c *child) end() {
	c.t.Helper()
	must(c.t, c.input.Close())
	for line := range c.lines {
		c.t.Logf("at its end: %s", line)
	}
	must(c.t, c.Wait())
}

// says waits for the next line, which must begin with a text.
func (c *child) says(want string) string {
	c.t.Helper()
	select {
	case line := <-c.lines:
		if !strings.HasPrefix(line, want) {
			c.t.Fatalf("process %d says %q, want %q", c.Process.Pid, line, want)
		}
		return line
	case <-time.After(netns.Patience()):
		c.t.Fatalf("process %d does not say %q", c.Process.Pid, want)
	}
	return ""
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
