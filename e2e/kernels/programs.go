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
	"strings"
)

// needed are the programs that this machine must have, by the Debian packages that have them.
var needed = [...]struct{ program, from string }{
	{"qemu-system-x86_64", "qemu-system-x86"}, {"busybox", "busybox-static"}, {"depmod", "kmod"}, {"modprobe", "kmod"}, {"bash", "bash"},
	{"nft", "nftables"}, {"ip", "iproute2"}, {"iptables", "iptables"}, {"conntrack", "conntrack"}, {"setpriv", "util-linux"},
	{"apt-get", "apt"}, {"apt-cache", "apt"}, {"dpkg", "dpkg"},
}

// findPrograms looks for what this needs, and installs what is missing, or says how to.
func findPrograms(ctx context.Context, install bool, log io.Writer) error {
	missing := missingPackages()
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
	if missing = missingPackages(); len(missing) > 0 {
		return fmt.Errorf("programs are missing still, of the packages %s", strings.Join(missing, " "))
	}
	return nil
}

// missingPackages returns the packages of the programs that are not there.
func missingPackages() []string {
	var list []string
	seen := map[string]bool{}
	for _, n := range needed {
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
