// SPDX-License-Identifier: Apache-2.0

// Upstreamimages writes those images that Kubernetes' own e2e tests ask for, and CoreDNS's, into an OCI archive:
//
//	upstreamimages -bin DIR -porter DIR -o FILE
//
// Upstream's are of Alpine. These have agnhost and, for shells in pods, busybox and some programs of this machine. The
// image nginx is agnhost, too: specs want only that it runs.
package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/nftproxy/nftproxy/e2e/image"
)

// tests is where upstream has its images.
const tests = "registry.k8s.io/e2e-test-images/"

func main() {
	bin := flag.String("bin", "bin/cluster", "the `folder` of agnhost, dns, regression-issue-74839 and server")
	porter := flag.String("porter", "", "the `folder` of k8s.io/kubernetes with localhost.crt and localhost.key")
	out := flag.String("o", "upstream.tar", "the `file` to write")
	flag.Parse()
	images, err := images(*bin, *porter)
	if err == nil {
		err = image.Write(*out, images...)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "upstreamimages:", err)
		os.Exit(1)
	}
}

func images(bin, porter string) ([]image.Image, error) {
	base, err := base()
	if err != nil {
		return nil, err
	}
	binary := func(name string) []image.Binary {
		return []image.Binary{{Arch: runtime.GOARCH, File: filepath.Join(bin, name)}}
	}
	pause := image.Image{Name: "registry.k8s.io/pause:3.10.2", Entrypoint: "/server", Cmd: []string{"pause"}, Binaries: binary("server")}
	registry, err := pause.Registry("/var/registry", "pause", "testing")
	if err != nil {
		return nil, err
	}
	agnhost := image.Image{Name: tests + "agnhost:2.66.1", Aliases: []string{tests + "agnhost:2.55", tests + "nginx:1.27.0-2", tests + "nginx:1.28.0-2"},
		Entrypoint: "/agnhost", Cmd: []string{"pause"}, Binaries: binary("agnhost"),
		Files: slices.Concat(base, registry, []image.File{
			{Name: "/agnhost-2", Link: "agnhost"}, {Name: "/uploads", Dir: true, Mode: 0o777},
			{Name: "/localhost.crt", Source: filepath.Join(porter, "localhost.crt"), Mode: 0o644},
			{Name: "/localhost.key", Source: filepath.Join(porter, "localhost.key"), Mode: 0o644},
			{Name: "/coredns", Source: filepath.Join(bin, "dns")}, // for specs that run a server of their own
		})}
	shell := image.Image{Name: tests + "busybox:1.37.0-2", Aliases: []string{tests + "glibc-dns-testing:2.1.1", "registry.k8s.io/build-image/distroless-iptables:v0.9.9"},
		Entrypoint: "/server", Binaries: binary("server"), Files: base}
	conntrack := image.Image{Name: tests + "regression-issue-74839:1.5", Entrypoint: "/regression-issue-74839", Binaries: binary("regression-issue-74839"), Files: base}
	dns := image.Image{Name: "docker.io/library/e2e-dns:latest", Entrypoint: "/dns", Binaries: binary("dns"), Files: base}
	return []image.Image{pause, agnhost, shell, conntrack, dns}, nil
}

// packages says what to do where a program is missing.
const packages = "install Debian's bind9-dnsutils, busybox-static, conntrack, curl, iproute2, netcat-openbsd, socat and wget"

// base returns what a pod needs to run shell commands, and what programs with glibc need.
func base() ([]image.File, error) {
	files, err := image.Programs("bash", "conntrack", "curl", "dig", "getent", "host", "ip", "nc", "socat", "ss", "wget")
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, packages)
	}
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		return nil, fmt.Errorf("find a program for an image: %w: %s", err, packages)
	}
	applets, err := exec.Command(busybox, "--list").Output()
	if err != nil {
		return nil, fmt.Errorf("list what busybox is: %w", err)
	}
	files = append(files, image.File{Name: "/bin/busybox", Source: busybox}, image.File{Name: "/tmp", Dir: true, Mode: 0o1777},
		image.File{Name: "/bin/bash", Link: "/usr/bin/bash"}, image.File{Name: "/usr/bin/env", Link: "/bin/busybox"},
		image.File{Name: "/etc/passwd", Data: []byte("root:x:0:0:root:/root:/bin/sh\n"), Mode: 0o644},
		image.File{Name: "/etc/group", Data: []byte("root:x:0:\n"), Mode: 0o644},
		image.File{Name: "/etc/nsswitch.conf", Data: []byte("hosts: files dns\n"), Mode: 0o644})
	// busybox's wget, linked statically, crashes when it looks a name up; GNU's tries 20 times, where specs count on one.
	files = append(files, image.File{Name: "/usr/local/bin/wget", Data: []byte("#!/bin/sh\nexec /usr/bin/wget -t 1 \"$@\"\n")})
	// busybox's shell would run its own applets rather than the programs above.
	files = append(files, image.File{Name: "/bin/sh", Link: "/usr/bin/bash"})
	for applet := range strings.FieldsSeq(string(applets)) {
		if !slices.Contains([]string{"ash", "bash", "busybox", "sh"}, applet) {
			files = append(files, image.File{Name: "/bin/" + applet, Link: "busybox"})
		}
	}
	return files, nil
}
