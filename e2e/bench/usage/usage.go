// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package usage tells what a process takes: CPU time, memory and descriptors, from proc(5).
package usage

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// CPU is the processor time of a process and of the programs it ran that have ended.
type CPU struct{ User, System time.Duration }

// Sub returns what came to c since o.
func (c CPU) Sub(o CPU) CPU { return CPU{c.User - o.User, c.System - o.System} }

// All returns the sum.
func (c CPU) All() time.Duration { return c.User + c.System }

// CPUTime reads proc_pid_stat(5), which counts in hundredths of a second.
func CPUTime(pid int) (CPU, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return CPU{}, fmt.Errorf("read CPU time: %w", err)
	}
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+2:]))
	var ticks [4]time.Duration // utime, stime, cutime, cstime
	for i := range ticks {
		n, err := strconv.Atoi(fields[11+i])
		if err != nil {
			return CPU{}, fmt.Errorf("read CPU time: %w", err)
		}
		ticks[i] = time.Duration(n) * 10 * time.Millisecond
	}
	return CPU{ticks[0] + ticks[2], ticks[1] + ticks[3]}, nil
}

// MemoryMB reads a size from proc_pid_status(5), such as VmRSS.
func MemoryMB(pid int, what string) (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, fmt.Errorf("read memory: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, what+":"); ok {
			kb, err := strconv.Atoi(strings.Fields(value)[0])
			return float64(kb) / 1024, err
		}
	}
	return 0, fmt.Errorf("read memory of process %d: no %s", pid, what)
}

// Descriptors counts the open files of a process.
func Descriptors(pid int) (int, error) {
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		return 0, fmt.Errorf("count descriptors: %w", err)
	}
	return len(files), nil
}
