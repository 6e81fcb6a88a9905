// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// releases are the Debian releases whose kernels can be had.
var releases = [...]string{"bullseye", "bookworm", "trixie", "trixie-backports"}

// errUnavailable says that a kernel cannot be had here. That is no fault of nftproxy's.
var errUnavailable = errors.New("this kernel cannot be had here")

// repository is apt with lists of its own, below a directory.
type repository struct{ dir string }

// kernel is an unpacked kernel package.
type kernel struct {
	version string // as uname -r has it
	image   string // the file vmlinuz
	modules string // the directory of its modules
}

// openRepository reads the lists of packages from this machine's mirrors. A release that a mirror lacks is told, and no error: it
// shows when a kernel of it is asked for.
func openRepository(ctx context.Context, dir string, log io.Writer) (repository, error) {
	r := repository{dir}
	sources, err := mirrors()
	if err != nil {
		return r, err
	}
	for _, d := range []string{"lists/partial", "cache/archives/partial"} {
		if err = os.MkdirAll(filepath.Join(dir, "apt", d), 0o755); err != nil {
			return r, err
		}
	}
	if err = os.WriteFile(r.path("sources.list"), []byte(sources), 0o600); err != nil {
		return r, err
	}
	conf := fmt.Sprintf("Dir::Etc::sourcelist %q;\nDir::Etc::sourceparts \"/dev/null\";\nDir::State::lists %q;\nDir::Cache %q;\nAPT::Sandbox::User \"root\";\nAcquire::Languages \"none\";\n",
		r.path("sources.list"), r.path("lists"), r.path("cache"))
	if err = os.WriteFile(r.path("apt.conf"), []byte(conf), 0o600); err != nil {
		return r, err
	}
	return r, r.update(ctx, log)
}

// update fetches the lists, unless it did so today.
func (r repository) update(ctx context.Context, log io.Writer) error {
	const fresh = 24 * time.Hour
	stamp := r.path("updated")
	if s, err := os.Stat(stamp); err == nil && time.Since(s.ModTime()) < fresh {
		return nil
	}
	if _, err := r.run(ctx, r.dir, "apt-get", "update", "-q"); err != nil {
		fmt.Fprintln(log, "not all lists of packages can be had:", err)
		return ctx.Err()
	}
	return os.WriteFile(stamp, nil, 0o600)
}

func (r repository) path(name string) string { return filepath.Join(r.dir, "apt", name) }

func (r repository) run(ctx context.Context, dir, name string, args ...string) (string, error) {
	return output(ctx, dir, []string{"APT_CONFIG=" + r.path("apt.conf")}, name, args...)
}

// output runs a program and returns what it writes.
func output(ctx context.Context, dir string, env []string, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	out, err := cmd.Output()
	var failed *exec.ExitError
	if errors.As(err, &failed) {
		err = fmt.Errorf("%w: %s", err, strings.TrimSpace(string(failed.Stderr)))
	}
	if err != nil {
		return "", fmt.Errorf("%s %s: %w", name, strings.Join(args, " "), err)
	}
	return string(out), nil
}

// mirrors returns the lines of a sources.list: all releases at the mirrors that this machine uses.
func mirrors() (string, error) {
	files, err := filepath.Glob("/etc/apt/sources.list.d/*")
	if err != nil {
		return "", err
	}
	found := map[string]bool{}
	for _, f := range append(files, "/etc/apt/sources.list") {
		text, _ := os.ReadFile(f) // there may be none
		for _, uri := range regexp.MustCompile(`(?m)^[^#\n]*?(https?://[^\s\]]+)`).FindAllStringSubmatch(string(text), -1) {
			found[strings.TrimSuffix(uri[1], "/")] = true
		}
	}
	var b strings.Builder
	for uri := range found {
		for _, s := range releases {
			switch {
			case strings.HasSuffix(uri, "/debian"):
			case strings.HasSuffix(uri, "security") && !strings.Contains(s, "-"):
				s += "-security"
			default:
				continue
			}
			fmt.Fprintf(&b, "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] %s %s main\n", uri, s)
		}
	}
	if b.Len() == 0 {
		return "", fmt.Errorf("%w: there is no Debian mirror in /etc/apt: this needs a Debian machine", errUnavailable)
	}
	return b.String(), nil
}

// newest returns the newest version of a series, such as 6.1, or of all, if that is "newest".
func (r repository) newest(ctx context.Context, series string) (string, error) {
	out, err := r.run(ctx, r.dir, "apt-cache", "search", "--names-only", "^linux-image-[0-9].*-cloud-amd64$")
	if err != nil {
		return "", err
	}
	best := ""
	for line := range strings.Lines(out) {
		name, _, _ := strings.Cut(line, " ")
		version := strings.TrimPrefix(name, "linux-image-")
		if series != "newest" && !strings.HasPrefix(version, series+".") {
			continue
		}
		if slices.Compare(numbers(version), numbers(best)) > 0 {
			best = version
		}
	}
	if best == "" {
		return "", fmt.Errorf("%w: the mirrors in /etc/apt have no package linux-image-%s*-cloud-amd64", errUnavailable, strings.TrimPrefix(series+".", "newest."))
	}
	return best, nil
}

// numbers returns those in a version, by which versions are ordered.
func numbers(version string) (list []int) {
	for _, n := range regexp.MustCompile(`\d+`).FindAllString(version, -1) {
		i, err := strconv.Atoi(n)
		if err != nil {
			return list
		}
		list = append(list, i)
	}
	return list
}

// fetch downloads a kernel, which may come in two packages, and unpacks it.
func (r repository) fetch(ctx context.Context, version string) (kernel, error) {
	dir := filepath.Join(r.dir, version)
	if k, err := findKernel(dir, version); err == nil {
		return k, nil
	}
	packages := []string{"linux-image-" + version}
	out, err := r.run(ctx, r.dir, "apt-cache", "depends", packages[0])
	if err != nil {
		return kernel{}, err
	}
	for _, m := range regexp.MustCompile(`Depends: (linux-(?:modules|binary)-\S+)`).FindAllStringSubmatch(out, -1) {
		packages = append(packages, m[1])
	}
	unfinished := dir + ".new"
	if err = errors.Join(os.RemoveAll(unfinished), os.MkdirAll(unfinished, 0o755)); err != nil {
		return kernel{}, err
	}
	if err = r.unpack(ctx, unfinished, packages); err != nil {
		return kernel{}, err
	}
	if err = errors.Join(os.RemoveAll(dir), os.Rename(unfinished, dir)); err != nil {
		return kernel{}, err
	}
	return findKernel(dir, version)
}

// unpack downloads packages, and unpacks them, all in a directory.
func (r repository) unpack(ctx context.Context, dir string, packages []string) error {
	args := append([]string{"download", "-q"}, packages...)
	_, err := r.run(ctx, dir, "apt-get", args...)
	if err != nil { // the mirror may have newer packages than its lists of this morning say
		if _, failed := r.run(ctx, r.dir, "apt-get", "update", "-q"); failed == nil {
			_, err = r.run(ctx, dir, "apt-get", args...)
		}
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errUnavailable, err)
	}
	debs, err := filepath.Glob(filepath.Join(dir, "*.deb"))
	if err != nil {
		return err
	}
	for _, deb := range debs {
		if _, err := r.run(ctx, dir, "dpkg", "-x", deb, dir); err != nil {
			return err
		}
	}
	return nil
}

// findKernel looks for an unpacked kernel: its image lies in /boot, or beside the modules, which lie in /lib or /usr/lib.
func findKernel(dir, version string) (kernel, error) {
	k := kernel{version: version}
	for _, lib := range []string{"lib", "usr/lib"} {
		modules := filepath.Join(dir, lib, "modules", version)
		if _, err := os.Stat(filepath.Join(modules, "kernel")); err == nil {
			k.modules = modules
		}
	}
	for _, image := range []string{filepath.Join(dir, "boot", "vmlinuz-"+version), filepath.Join(k.modules, "vmlinuz")} {
		if _, err := os.Stat(image); err == nil && k.image == "" {
			k.image = image
		}
	}
	if k.modules == "" || k.image == "" {
		return k, fmt.Errorf("kernel %s: no vmlinuz and modules in %s", version, dir)
	}
	return k, nil
}
