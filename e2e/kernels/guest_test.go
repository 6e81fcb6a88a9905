// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// bootEnv makes the test binary boot a guest, and print its console.
const bootEnv = "NFTPROXY_E2E_KERNELS_BOOT"

func TestMain(m *testing.M) {
	if os.Getenv(bootEnv) != "" {
		err := guest{limit: time.Hour}.boot(context.Background(), func(line string) { fmt.Println(line) })
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// TestGuestEndsWithParent: no qemu is left behind if this program is killed.
func TestGuestEndsWithParent(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	// The guest holds it open for as long as it lives.
	held, err := os.OpenFile(fifo, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	stubs(t, map[string]string{"qemu-system-x86_64": "exec 3>" + fifo + "\necho $$\nexec sleep 600\n"})
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
	cmd.Env, cmd.Stderr = append(os.Environ(), bootEnv+"=1"), os.Stderr
	console, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err = cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(console).ReadString('\n')
	if killed := errors.Join(cmd.Process.Kill(), err); killed != nil {
		t.Fatal(killed)
	}
	_ = cmd.Wait() // it was killed
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	if err = held.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err = held.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the guest outlives its parent: %v", err)
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}
