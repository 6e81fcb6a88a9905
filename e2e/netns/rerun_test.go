// SPDX-License-Identifier: Apache-2.0

//go:build linux

package netns

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// inner is the helper program inside the user namespace.
func inner(mode string) int {
	switch mode {
	case "echo": // arguments, standard input, identity; exit code 7
		text, _ := io.ReadAll(os.Stdin)
		fmt.Printf("%q %q uid=%d", os.Args[1:], text, os.Getuid())
		fmt.Fprint(os.Stderr, "to stderr")
		return 7
	case "wait": // for a signal, with its pid for the test
		signals := make(chan os.Signal, 1)
		signal.Notify(signals, syscall.SIGTERM)
		fmt.Println(os.Getpid())
		<-signals
		return 9
	case "loopback": // exit code 0 if what nobody listens at is refused
		if _, err := net.Dial("tcp", "127.0.0.1:1"); !errors.Is(err, syscall.ECONNREFUSED) {
			fmt.Fprint(os.Stderr, err)
			return 1
		}
		return 0
	case "die":
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}
	return 1
}

func helperCommand(t *testing.T, mode string, args ...string) *exec.Cmd {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), Patience())
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, "/proc/self/exe", args...)
	cmd.Env = append(environWithoutMarker(), helperEnv+"="+mode)
	return cmd
}

func environWithoutMarker() []string {
	var env []string
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, marker+"=") {
			env = append(env, v)
		}
	}
	return env
}

func TestRerunPassesArgumentsFilesAndExitCode(t *testing.T) {
	cmd := helperCommand(t, "echo", "one", "two words")
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader("input"), &stdout, &stderr
	err := cmd.Run()
	if code := cmd.ProcessState.ExitCode(); code != 7 {
		t.Errorf("exit code %d (%v), want 7", code, err)
	}
	if got, want := stdout.String(), `["one" "two words"] "input" uid=0`; got != want {
		t.Errorf("standard output %s, want %s", got, want)
	}
	if stderr.String() != "to stderr" {
		t.Errorf("standard error %q", &stderr)
	}
}

func TestRerunReportsSignalOfChild(t *testing.T) {
	cmd := helperCommand(t, "die")
	_ = cmd.Run()
	if code := cmd.ProcessState.ExitCode(); code != 128+9 {
		t.Errorf("exit code %d, want %d", code, 128+9)
	}
}

func TestRerunPassesSignals(t *testing.T) {
	cmd, _ := startWaiter(t)
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 9 {
		t.Errorf("exit code %d, want 9", code)
	}
}

func TestRerunLeavesNoChildWhenKilled(t *testing.T) {
	cmd, child := startWaiter(t)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	eventually(t, "the child to die", func() bool { return !alive(child) })
}

// startWaiter starts a helper and returns it with the pid of its inner process.
func startWaiter(t *testing.T) (*exec.Cmd, int) {
	t.Helper()
	cmd := helperCommand(t, "wait")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err = cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("read the helper's line: %v", err)
	}
	child, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	return cmd, child
}

// alive is false for a process that is gone or a zombie.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, after, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(after, "Z")
}

func TestExplain(t *testing.T) {
	err := explain(syscall.EPERM)
	if !errors.Is(err, syscall.EPERM) || !strings.Contains(err.Error(), "user namespace") {
		t.Errorf("explain = %v", err)
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(Patience()); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v for %s", Patience(), what)
		}
	}
}

// TestRerunHasLoopback: tests that make no namespace of their own talk over 127.0.0.1.
func TestRerunHasLoopback(t *testing.T) {
	if out, err := helperCommand(t, "loopback").CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}
