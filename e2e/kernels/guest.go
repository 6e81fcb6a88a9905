// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// guest says how to run the tests in an emulated machine.
type guest struct {
	kernel   kernel
	image    string // the initramfs
	qemu     string // the emulator's version
	sctp     bool   // with the kernel's own SCTP
	slowness int    // how many times longer tests wait; 0: as the guest measures it
	memory   int    // MiB
	cpus     int
	limit    time.Duration
}

// qemu is the emulator, as it is found in $PATH.
const qemu = "qemu-system-x86_64"

// qemuVersion returns the emulator's version, such as 10.0.13. Results depend on it: with old ones kernels answer wrongly at times.
func qemuVersion(ctx context.Context) (string, error) {
	out, err := output(ctx, ".", nil, qemu, "--version")
	if err != nil {
		return "", err
	}
	found := regexp.MustCompile(`version (\d[0-9.]*)`).FindStringSubmatch(out)
	if found == nil {
		return "", fmt.Errorf("%s --version: no version in %q", qemu, out)
	}
	return found[1], nil
}

// sideBySide is how many tests run at a time for each CPU: they compute more than they wait.
const sideBySide = 2

// boot runs the guest to its end, and tells of each line of its console. What it wrote last says how far it came. The guest ends
// with this process at the latest.
func (g guest) boot(ctx context.Context, line func(string)) error {
	ctx, cancel := context.WithTimeout(ctx, g.limit)
	defer cancel()
	sctp := "no"
	if g.sctp {
		sctp = "yes"
	}
	// no_timer_check: on a busy machine the kernel takes the emulated timer for broken, and panics.
	options := fmt.Sprintf("console=ttyS0 quiet panic=-1 mitigations=off no_timer_check t.sctp=%s t.slowness=%d t.parallel=%d",
		sctp, g.slowness, sideBySide*max(g.cpus, 1))
	cmd := exec.CommandContext(ctx, qemu, "-accel", "tcg,thread=multi", "-cpu", "max",
		"-smp", strconv.Itoa(max(g.cpus, 1)), "-m", strconv.Itoa(g.memory),
		"-kernel", g.kernel.image, "-initrd", g.image, "-append", options,
		"-nographic", "-no-reboot", "-nic", "none", "-monitor", "none", "-serial", "stdio")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread() // the kernel counts the end of the thread that starts qemu as its parent's death
	defer runtime.UnlockOSThread()
	console, guest := io.Pipe()
	cmd.Stdout, cmd.Stderr = guest, guest
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("boot kernel %s: %w", g.kernel.version, err)
	}
	ended := make(chan error, 1)
	go func() {
		err := cmd.Wait()
		_ = guest.Close()
		ended <- err
	}()
	for lines := bufio.NewReader(console); ; {
		text, err := lines.ReadString('\n')
		if text != "" {
			line(strings.TrimRight(text, "\r\n"))
		}
		if err != nil {
			break
		}
	}
	err := <-ended
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		err = fmt.Errorf("not done in %v", g.limit)
	}
	if err != nil {
		return fmt.Errorf("run kernel %s: %w", g.kernel.version, err)
	}
	return nil
}
