// SPDX-License-Identifier: Apache-2.0

//go:build linux

package report

import (
	"bufio"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// ThisMachine describes where a run takes place, and which nftproxy takes part, by its executable file.
func ThisMachine(nftproxy string) Machine {
	m := Machine{
		CPU:      field("/proc/cpuinfo", "model name", ":"),
		Cores:    runtime.NumCPU(),
		OS:       strings.Trim(field("/etc/os-release", "PRETTY_NAME", "="), `"`),
		Go:       runtime.Version(),
		Commit:   firstLine(nftproxy, "--version"),
		Programs: map[string]string{},
	}
	if kb, err := strconv.Atoi(strings.TrimSuffix(field("/proc/meminfo", "MemTotal", ":"), " kB")); err == nil {
		m.MemoryMB = kb / 1024
	}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		m.Kernel = unix.ByteSliceToString(u.Release[:])
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, d := range info.Deps {
			if d.Path == "k8s.io/kubernetes" {
				m.Kubernetes = d.Version
			}
		}
	}
	for _, program := range []string{"nft", "iptables"} {
		m.Programs[program] = firstLine(program, "--version")
	}
	return m
}

// field returns what stands behind a key in a file of lines; nothing if it is not there.
func field(file, key, separator string) string {
	f, err := os.Open(file)
	if err != nil {
		return ""
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if k, v, ok := strings.Cut(lines.Text(), separator); ok && strings.TrimSpace(k) == key {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// firstLine returns that of a program's output, or why there is none.
func firstLine(program string, args ...string) string {
	out, err := exec.Command(program, args...).Output()
	if err != nil {
		return err.Error()
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return line
}
