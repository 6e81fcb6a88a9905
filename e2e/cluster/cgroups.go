// SPDX-License-Identifier: Apache-2.0

//go:build linux

package cluster

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

const cgroupRoot = "/sys/fs/cgroup"

// cgroups are the folders of one control group, in each hierarchy of version 1, or in
// the only one of version 2.
type cgroups []string

func newCgroups(name string) (cgroups, error) {
	hierarchies := []string{cgroupRoot}
	if _, err := os.Stat(filepath.Join(cgroupRoot, "cgroup.controllers")); err != nil {
		hierarchies, _ = filepath.Glob(cgroupRoot + "/*")
	}
	var c cgroups
	for _, h := range hierarchies {
		if info, err := os.Lstat(h); err != nil || !info.IsDir() {
			continue // a link, such as cpu,cpuacct
		}
		dir := filepath.Join(h, name)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return c, fmt.Errorf("make control group: %w", err)
		}
		c = append(c, dir)
		// A cpuset takes no process before it has processors and memory.
		for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
			if all, err := os.ReadFile(filepath.Join(h, file)); err == nil {
				if err := os.WriteFile(filepath.Join(dir, file), all, 0); err != nil {
					return c, fmt.Errorf("set up control group: %w", err)
				}
			}
		}
	}
	return c, nil
}

// remove removes the groups with all below them. Their last processes may be on
// their way out.
func (c cgroups) remove() error {
	deadline := time.Now().Add(10 * time.Second)
	for {
		var errs []error
		for _, dir := range c {
			errs = append(errs, removeGroup(dir))
		}
		err := errors.Join(errs...)
		if err == nil || time.Now().After(deadline) {
			return err
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func removeGroup(dir string) error {
	var dirs []string
	_ = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() {
			dirs = append(dirs, path)
		}
		return nil
	})
	for _, d := range slices.Backward(dirs) {
		if err := os.Remove(d); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove control group: %w", err)
		}
	}
	return nil
}
