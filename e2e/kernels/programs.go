// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"debug/elf"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// needed is a program that this machine must have, and the Debian package that has it.
type needed struct{ program, from string }

// neededByAll are those without which nothing runs.
var neededByAll = [...]needed{
	{qemu, "qemu-system-x86"}, {"busybox", "busybox-static"}, {"depmod", "kmod"}, {"modprobe", "kmod"}, {"bash", "bash"},
	{"nft", "nftables"}, {"ip", "iproute2"}, {"iptables", "iptables"}, {"conntrack", "conntrack"}, {"setpriv", "util-linux"},
	{"/usr/lib/cni/bridge", "containernetworking-plugins"}, {"apt-get", "apt"}, {"apt-cache", "apt"}, {"dpkg", "dpkg"},
}

// findPrograms looks for what the parts need, and installs what is missing, or says how to.
func findPrograms(ctx context.Context, parts []part, install bool, log io.Writer) error {
	all := neededByAll[:]
	for _, p := range parts {
		all = slices.Concat(all, p.needs)
	}
	missing := missingPackages(all)
	if len(missing) == 0 {
		return nil
	}
	command := append([]string{"apt-get", "install", "-qy", "--no-install-recommends"}, missing...)
	if !install {
		return fmt.Errorf("programs are missing here: %s", strings.Join(command, " "))
	}
	for _, c := range [][]string{{"apt-get", "update", "-q"}, command} {
		fmt.Fprintln(log, strings.Join(c, " "))
		if _, err := output(ctx, ".", []string{"DEBIAN_FRONTEND=noninteractive"}, c[0], c[1:]...); err != nil {
			return fmt.Errorf("install what is missing (as root): %w", err)
		}
	}
	if missing = missingPackages(all); len(missing) > 0 {
		return fmt.Errorf("programs are missing still, of the packages %s", strings.Join(missing, " "))
	}
	return nil
}

// missingPackages returns the packages of the programs that are not there.
func missingPackages(all []needed) []string {
	var list []string
	seen := map[string]bool{}
	for _, n := range all {
		path, err := findProgram(n.program)
		if err == nil && n.program == "busybox" && !static(path) {
			err = fmt.Errorf("%s needs libraries", path)
		}
		if err != nil && !seen[n.from] {
			seen[n.from] = true
			list = append(list, n.from)
		}
	}
	return list
}

// findProgram returns the path of a program. It looks into the directories of system programs besides $PATH.
func findProgram(name string) (string, error) {
	path, err := exec.LookPath(name)
	for _, dir := range []string{"/usr/sbin", "/sbin"} {
		if err != nil {
			path, err = exec.LookPath(filepath.Join(dir, name))
		}
	}
	return path, err
}

// static says whether a program needs no libraries. One that cannot be read, such as a script, is taken for one that does not.
func static(path string) bool {
	f, err := elf.Open(path)
	if err != nil {
		return true
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return false
		}
	}
	return true
}
