// SPDX-License-Identifier: Apache-2.0

//go:build linux

package netns

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// marker is set in the environment of a program that was run again inside a
// user namespace, so that it does not try once more.
const marker = "NFTPROXY_E2E_USER_NAMESPACE"

// Main runs fn with the privileges that namespaces need, inside a user
// namespace if necessary, and returns the exit code:
//
//	func TestMain(m *testing.M) { os.Exit(netns.Main(m.Run)) }
func Main(fn func() int) int {
	code, done, err := EnsurePrivileges()
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, err)
		return 1
	case done:
		return code
	}
	return fn()
}

// EnsurePrivileges returns at once, with done false, if the process may make
// network namespaces. If not, it runs the program again as root of a new user,
// network and mount namespace, with the same arguments, environment and files
// and with a loopback device that is up, passes signals on, waits for it, and returns done and its exit code (128 + n
// if signal n ended it): the caller exits with that code. The error says what
// forbids user namespaces, where that is known.
//
// It must come before anything with a side effect: the program starts anew.
func EnsurePrivileges() (code int, done bool, err error) {
	cause := probe()
	if cause == nil && InUserNamespace() {
		cause = loopbackUp(&netlink.Handle{}) // it is down in a new network namespace, and tests that need no other one talk over it
	}
	if cause == nil {
		return 0, false, nil
	}
	if InUserNamespace() {
		return 0, false, explain(cause)
	}
	code, err = rerun()
	if err != nil {
		return 0, false, explain(err)
	}
	return code, true, nil
}

// InUserNamespace tells whether EnsurePrivileges made the user namespace that
// this process runs in.
func InUserNamespace() bool { return os.Getenv(marker) != "" }

// probe does what the tests will do; capability bits alone do not tell what a
// security module or a seccomp filter forbids.
func probe() error {
	n, err := New("probe")
	if err != nil {
		return err
	}
	defer n.Close()
	return n.Do(func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_SCTP)
		if err != nil {
			return fmt.Errorf("open a raw socket (it needs CAP_NET_RAW): %w", err)
		}
		return unix.Close(fd)
	})
}

// rerun runs the program again in a user namespace and returns its exit code.
func rerun() (int, error) {
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = os.Args
	cmd.Env = append(os.Environ(), marker+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNET | unix.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}},
		Pdeathsig:   syscall.SIGKILL,
	}
	// The kernel counts the end of the thread that started the child as the parent's death.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	signals := make(chan os.Signal, 16)
	for _, s := range []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2} {
		if !signal.Ignored(s) { // nohup must stay nohup
			signal.Notify(signals, s)
		}
	}
	defer signal.Stop(signals)
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("run %s again in a user namespace: %w", os.Args[0], err)
	}
	ended := make(chan struct{})
	defer close(ended)
	go relay(cmd.Process, signals, ended)
	return exitCode(cmd.Wait())
}

func relay(to *os.Process, signals <-chan os.Signal, ended <-chan struct{}) {
	for {
		select {
		case s := <-signals:
			// Ctrl-C reaches the whole process group; a second one means 'at once' to many programs.
			if s == syscall.SIGINT && ownsTerminal() {
				continue
			}
			_ = to.Signal(s) // it may just have ended
		case <-ended:
			return
		}
	}
}

func ownsTerminal() bool {
	tty, err := os.Open("/dev/tty")
	if err != nil {
		return false
	}
	defer tty.Close()
	group, err := unix.IoctlGetInt(int(tty.Fd()), unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp()
}

func exitCode(err error) (int, error) {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return 0, err
	}
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal()), nil
	}
	return exit.ExitCode(), nil
}

// explain adds to a refusal what in this machine's settings forbids user namespaces.
func explain(cause error) error {
	settings := []struct{ path, forbids, remedy string }{
		{"/proc/sys/user/max_user_namespaces", "0", "sysctl -w user.max_user_namespaces=1000"},
		{"/proc/sys/kernel/unprivileged_userns_clone", "0", "sysctl -w kernel.unprivileged_userns_clone=1"},
		{"/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1", "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"},
	}
	var found []string
	for _, s := range settings {
		if text, err := os.ReadFile(s.path); err == nil && strings.TrimSpace(string(text)) == s.forbids {
			found = append(found, fmt.Sprintf("%s is %s (allow with `%s`)", s.path, s.forbids, s.remedy))
		}
	}
	if len(found) == 0 {
		found = []string{"no sysctl forbids it; in a container its seccomp profile may: give it the capabilities SYS_ADMIN, NET_ADMIN and NET_RAW"}
	}
	return fmt.Errorf("network namespaces need root, or a user namespace, which was refused: %w: %s; or run as root", cause, strings.Join(found, "; "))
}
