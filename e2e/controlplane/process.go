// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
)

// spawner forks all children from one thread that lives until close: the
// kernel sends a child its death signal when the thread that forked it ends,
// and Go ends threads at will. Children inherit the thread's namespace.
type spawner struct {
	ns       namespace
	commands chan *exec.Cmd
	started  chan error
}

func newSpawner(ns namespace) *spawner {
	s := &spawner{ns: ns, commands: make(chan *exec.Cmd), started: make(chan error)}
	go s.run()
	return s
}

func (s *spawner) run() {
	runtime.LockOSThread()
	home := true
	for cmd := range s.commands {
		restored, err := s.ns.enter(cmd.Start)
		home = home && restored
		s.started <- err
	}
	if home {
		runtime.UnlockOSThread()
	}
}

func (s *spawner) start(cmd *exec.Cmd) error {
	s.commands <- cmd
	return <-s.started
}

// close ends the spawner. Children that still run get their death signal.
func (s *spawner) close() { close(s.commands) }

// process is one child.
type process struct {
	name    string
	logFile string
	cmd     *exec.Cmd
	exited  chan struct{} // closed when the child is gone
	err     error         // how it ended; valid once exited is closed
}

// startProcess executes the program as the named server, in the control plane's folder, with
// its output in a file there. The environment is empty but for what the child
// needs, so that no proxy setting of the machine gets between the servers.
func (cp *ControlPlane) startProcess(name string, args []string) (*process, error) {
	dir := cp.dir
	p := &process{name: name, logFile: filepath.Join(dir, name+".log"), exited: make(chan struct{})}
	log, err := os.Create(p.logFile)
	if err != nil {
		return nil, fmt.Errorf("create the log of %s: %w", name, err)
	}
	defer log.Close()
	p.cmd = &exec.Cmd{
		Path:        cp.program,
		Args:        append([]string{name}, args...),
		Dir:         dir,
		Env:         []string{childEnv + "=" + name, "HOME=" + dir, "TMPDIR=" + dir},
		Stdout:      log,
		Stderr:      log,
		SysProcAttr: &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL},
	}
	if err := cp.spawner.start(p.cmd); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.exited)
	}()
	return p, nil
}

// kill ends the child and waits until it is gone. Nothing is worth a graceful
// end: all that it wrote is removed.
func (p *process) kill() error {
	err := p.cmd.Process.Kill()
	<-p.exited
	if err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("end %s, process %d: %w", p.name, p.cmd.Process.Pid, err)
	}
	return nil
}

// tail returns the last lines of the child's output.
func (p *process) tail() string {
	const lines, width = 25, 400
	data, err := os.ReadFile(p.logFile)
	if err != nil {
		return fmt.Sprintf("no log of %s: %v\n", p.name, err)
	}
	all := strings.Split(strings.TrimSpace(string(data)), "\n")
	var b strings.Builder
	fmt.Fprintf(&b, "last lines of %s:\n", p.name)
	for _, line := range all[max(0, len(all)-lines):] {
		b.WriteString("  " + line[:min(len(line), width)] + "\n")
	}
	return b.String()
}
