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

// TestQEMUVersion: the emulator's version is found, and is in the table beside what it emulated.
func TestQEMUVersion(t *testing.T) {
	for said, want := range map[string]string{
		"QEMU emulator version 10.0.13 (Debian 1:10.0.13+ds-0+deb13u1)\nCopyright (c) 2003-2025": "10.0.13",
		"QEMU emulator version 7.2.22": "7.2.22",
		"something else 1.2":           "",
	} {
		stubs(t, map[string]string{qemu: "echo '" + said + "'\n"})
		if got, err := qemuVersion(t.Context()); got != want || (err == nil) != (want != "") {
			t.Errorf("%q: version %q, %v; want %q", said, got, err, want)
		}
	}
	stubs(t, map[string]string{qemu: "exit 0\n"})
	g := guest{kernel: kernel{version: "6.0"}, qemu: "10.0.13", limit: time.Minute}
	r, err := options{}.test(t.Context(), g, "6", t.TempDir(), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	var table strings.Builder
	if err = writeTable(&table, []*result{r}); err != nil {
		t.Fatal(err)
	}
	if text := strings.Join(strings.Fields(table.String()), " "); !strings.Contains(text, "emulated by QEMU 10.0.13 ") {
		t.Errorf("the emulator is not in the table:\n%s", table.String())
	}
}

// TestBootsAgain: a kernel that panics before any test begins, or for the emulator's sake, is booted again, but not for ever; others are not.
func TestBootsAgain(t *testing.T) {
	for _, tt := range []struct {
		name   string
		guest  string // what it does in its Nth boot; N is in $n
		boots  int
		passed bool
	}{
		{"once", `[ $n = 1 ] && panic; pass`, 2, true},
		{"always", `panic`, bootTries, false},
		{"while it tests", `echo "=== begin lock"; panic`, 1, false},
		{"while it tests, for the emulator's sake", `echo "=== begin lock"; [ $n = 1 ] && echo '[    9.5] Oops: int3: 0000 [#1] PREEMPT SMP NOPTI' && panic; pass`, 2, true},
		{"never", `pass`, 1, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			count := filepath.Join(dir, "count")
			stubs(t, map[string]string{"qemu-system-x86_64": "echo >> " + count + "\nn=$(wc -l < " + count + `)
panic() { echo '[    2.5] Kernel panic - not syncing: Fatal exception in interrupt'; exit; }
pass() { echo '=== begin lock'; echo '=== end lock 0'; exit; }
` + tt.guest + "\n"})
			var told strings.Builder
			r, err := options{}.test(t.Context(), guest{kernel: kernel{version: "6.0"}, limit: time.Minute}, "6", dir, &told)
			if err != nil {
				t.Fatal(err)
			}
			boots, err := os.ReadFile(count)
			if err != nil {
				t.Fatal(err)
			}
			if n := len(boots); n != tt.boots || strings.Contains(told.String(), "end lock 0") != tt.passed {
				t.Errorf("%d boots, want %d; result %+v\n%s", n, tt.boots, r, told.String())
			}
		})
	}
}
