// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/e2e/bench/usage"
)

// settled returns the CPU time once a process has nothing to do: programs that it runs go
// on after what they changed works, and count from their end on.
func settled(ctx context.Context, pid int) (usage.CPU, error) {
	var last usage.CPU
	since := time.Now()
	for deadline := time.Now().Add(30 * time.Second); ; {
		used, err := usage.CPUTime(pid)
		if err != nil {
			return usage.CPU{}, err
		}
		if used != last || len(running(pid)) > 0 {
			last, since = used, time.Now()
		}
		if now := time.Now(); now.Sub(since) > 200*time.Millisecond || now.After(deadline) {
			return used, nil
		}
		if err := sleep(ctx, 20*time.Millisecond); err != nil {
			return usage.CPU{}, err
		}
	}
}

// memoryGroup is the folder of a control group of one process, which tells what kernel
// memory is charged to it.
type memoryGroup string

// cgroups is where control groups are: of version 2 if there is the file cgroup.controllers.
const cgroups = "/sys/fs/cgroup"

func newMemoryGroup(pid int) (memoryGroup, error) {
	root := cgroups + "/memory"
	if _, err := os.Stat(cgroups + "/cgroup.controllers"); err == nil {
		root = cgroups
		if err := os.WriteFile(root+"/cgroup.subtree_control", []byte("+memory"), 0); err != nil {
			return "", fmt.Errorf("switch control groups for memory on: %w", err)
		}
	}
	g := memoryGroup(fmt.Sprintf("%s/nftproxy-bench-%d", root, pid))
	if err := os.Mkdir(string(g), 0o755); err != nil {
		return "", fmt.Errorf("make a control group: %w", err)
	}
	if err := os.WriteFile(string(g)+"/cgroup.procs", []byte(strconv.Itoa(pid)), 0); err != nil {
		return "", errors.Join(fmt.Errorf("move process %d to a control group: %w", pid, err), g.close())
	}
	return g, nil
}

// kernel returns how many bytes are charged.
func (g memoryGroup) kernel() (float64, error) {
	text, err := os.ReadFile(string(g) + "/memory.kmem.usage_in_bytes") // version 1
	if err == nil {
		return strconv.ParseFloat(strings.TrimSpace(string(text)), 64)
	}
	if text, err = os.ReadFile(string(g) + "/memory.stat"); err != nil {
		return 0, fmt.Errorf("read kernel memory: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "kernel "); ok {
			return strconv.ParseFloat(strings.TrimSpace(value), 64)
		}
	}
	return 0, fmt.Errorf("read kernel memory: %s/memory.stat does not have it: it takes Linux 5.18", g)
}

// close removes the group, once the processes in it, which were killed, are gone.
func (g memoryGroup) close() error {
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		err := os.Remove(string(g))
		if !errors.Is(err, unix.EBUSY) || time.Now().After(deadline) {
			return err
		}
	}
}

// children looks at the programs that a process runs.
type children struct {
	ended   chan struct{}
	stopped sync.Once
	done    chan struct{}
	peakMB  float64 // once done
}

// watchChildren looks every 20 ms, until stop.
func watchChildren(pid int) *children {
	c := &children{ended: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(c.done)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			c.look(pid)
			select {
			case <-tick.C:
			case <-c.ended:
				return
			}
		}
	}()
	return c
}

// stop returns the largest resident size that was seen, in MB. 0: no program ran.
func (c *children) stop() float64 {
	c.stopped.Do(func() { close(c.ended) })
	<-c.done
	return c.peakMB
}

// look notes the sizes of the programs that run.
func (c *children) look(pid int) {
	for _, child := range running(pid) {
		mb, _ := usage.MemoryMB(child, "VmHWM") // 0 if it has ended
		c.peakMB = max(c.peakMB, mb)
	}
}

// running returns the programs that a process runs, from proc_tid_children(5): a child is
// listed with the thread that made it.
func running(pid int) []int {
	var out []int
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, list := range lists {
		text, _ := os.ReadFile(list) // threads end
		for _, child := range strings.Fields(string(text)) {
			n, _ := strconv.Atoi(child)
			exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", n))
			own, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
			if err == nil && exe != own { // not a fork that has yet to execute it
				out = append(out, n)
			}
		}
	}
	return out
}
