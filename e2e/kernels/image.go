// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bufio"
	"context"
	_ "embed" // of init.sh
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

//go:embed init.sh
var initScript []byte

// tools are this machine's programs that the guest has, besides those of busybox. The kernel itself runs modprobe.
var tools = [...]string{"bash", "conntrack", "ip", "ip6tables", "ip6tables-restore", "ip6tables-save", "ipset", "iptables", "iptables-restore",
	"iptables-save", "modprobe", "nft", "nsenter", "setpriv", "unshare"}

// plugins are those of CNI that the guest has.
var plugins = [...]string{"/usr/lib/cni/bridge", "/usr/lib/cni/host-local", "/usr/lib/cni/portmap"}

// extensions are the directories where iptables has its own.
const extensions = "/usr/lib/*/xtables"

// writeImage writes the initramfs of a kernel, with everything from a directory in /t. It is not compressed: an emulated
// machine is slow at that.
func writeImage(ctx context.Context, path string, k kernel, programs string) error {
	root, err := os.MkdirTemp(filepath.Dir(path), "root-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(root) }()
	err = errors.Join(makeRoot(root), addTools(ctx, root), addPrograms(root, programs), addModules(ctx, root, k))
	if err != nil {
		return fmt.Errorf("make initramfs: %w", err)
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(f, 1<<20)
	return errors.Join(writeArchive(w, root), w.Flush(), f.Close())
}

// makeRoot makes the directories and the files of a minimal system. Ordinary users may read all of it, too.
func makeRoot(root string) error {
	if err := os.Chmod(root, 0o755); err != nil {
		return err
	}
	for _, d := range []string{"bin", "sbin", "usr/bin", "usr/sbin", "usr/lib", "lib", "lib64", "proc", "sys", "dev", "tmp", "run", "root", "etc", "t", "var"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			return err
		}
	}
	files := map[string]string{
		"etc/passwd":    "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n",
		"etc/group":     "root:x:0:\nnogroup:x:65534:\n",
		"etc/hosts":     "127.0.0.1 localhost\n",
		"etc/protocols": "icmp 1 ICMP\ntcp 6 TCP\nudp 17 UDP\nipv6-icmp 58 IPv6-ICMP\nsctp 132 SCTP\n", // for ipset
		"init":          string(initScript),
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o755); err != nil {
			return err
		}
	}
	return os.Symlink("/run", filepath.Join(root, "var/run"))
}

// addTools adds busybox and this machine's programs with their libraries.
func addTools(ctx context.Context, root string) error {
	busybox, err := findProgram("busybox")
	if err != nil {
		return err
	}
	if err = copyFile(busybox, filepath.Join(root, "bin/busybox")); err != nil {
		return err
	}
	applets, err := output(ctx, root, nil, busybox, "--list")
	if err != nil {
		return err
	}
	own := map[string]bool{"busybox": true}
	for _, t := range tools {
		own[t] = true
		if err := addTool(ctx, root, t, "usr/sbin"); err != nil {
			return err
		}
	}
	for _, p := range plugins {
		if err := addTool(ctx, root, p, filepath.Dir(p)); err != nil {
			return err
		}
	}
	for _, a := range strings.Fields(applets) {
		if !own[a] {
			if err := os.Symlink("busybox", filepath.Join(root, "bin", a)); err != nil {
				return err
			}
		}
	}
	found, failed := filepath.Glob(extensions)
	for _, dir := range found {
		failed = errors.Join(failed, os.CopyFS(filepath.Join(root, dir), os.DirFS(dir)))
	}
	return errors.Join(failed, os.Symlink("/usr/sbin/modprobe", filepath.Join(root, "sbin/modprobe")))
}

// addTool adds a program, in a directory. Tests of one that this machine lacks are skipped.
func addTool(ctx context.Context, root, name, dir string) error {
	path, err := findProgram(name)
	if err != nil {
		return nil //nolint:nilerr // see above
	}
	libraries, err := output(ctx, root, nil, "ldd", path)
	if err != nil {
		return err
	}
	for _, l := range regexp.MustCompile(`/\S+`).FindAllString(libraries, -1) {
		l = strings.TrimSuffix(l, ":")
		if err := copyFile(l, filepath.Join(root, l)); err != nil {
			return err
		}
	}
	return copyFile(path, filepath.Join(root, dir, filepath.Base(name)))
}

// addPrograms adds everything below a directory, in /t.
func addPrograms(root, dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(root, "t", name), 0o755)
		}
		return copyFile(path, filepath.Join(root, "t", name))
	})
}

// useful are the modules that tests may need: of networking, without real devices; and what these need.
var useful = regexp.MustCompile(`^(net|drivers/net|crypto|lib|arch/[^/]+/crypto)/.*\.ko`)

// useless are modules below those directories that no test needs.
var useless = regexp.MustCompile(`^(drivers/net/(ethernet|wireless|wwan|usb|fddi|hippi|can|ieee802154)|net/(bluetooth|mac80211|wireless|9p|ceph|sunrpc|smc|tipc|batman))`)

func addModules(ctx context.Context, root string, k kernel) error {
	to := filepath.Join(root, "lib/modules", k.version)
	from := filepath.Join(k.modules, "kernel")
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(from, path)
		if err != nil || !useful.MatchString(name) || useless.MatchString(name) {
			return err
		}
		return copyFile(path, filepath.Join(to, "kernel", name))
	})
	if err != nil {
		return err
	}
	for _, name := range []string{"modules.order", "modules.builtin", "modules.builtin.modinfo"} {
		if err = copyFile(filepath.Join(k.modules, name), filepath.Join(to, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	depmod, err := findProgram("depmod")
	if err == nil {
		_, err = output(ctx, root, nil, depmod, "-b", root, k.version)
	}
	return err
}

// copyFile copies what a name leads to, executable for all. What is there stays.
func copyFile(from, to string) error {
	if _, err := os.Stat(to); err == nil {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o755) // ordinary users run it, too
}
