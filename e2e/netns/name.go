// SPDX-License-Identifier: Apache-2.0

//go:build linux

package netns

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// namedDir is where `ip netns` looks for names.
const namedDir = "/run/netns"

// Bind gives the namespace a name that outlives the process: `ip netns exec
// NAME` enters it, `ip netns del NAME` (or Close) removes it. Inside a user
// namespace the name would be in a mount namespace that nobody else sees: use
// EnterCommand there.
func (n *NS) Bind(name string) error {
	if err := shareNames(namedDir); err != nil {
		return err
	}
	return n.bindIn(namedDir, name)
}

// shareNames makes the directory of names a mount that is shared, as 'ip netns add' does where it is none. Done after a name
// was made, it would cover that name's mount, which nobody could take away any more; and the namespace would stay.
func shareNames(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make the directory of names: %w", err)
	}
	err := unix.Mount("", dir, "none", unix.MS_SHARED|unix.MS_REC, "")
	if errors.Is(err, unix.EINVAL) { // it is no mount yet
		if err = unix.Mount(dir, dir, "none", unix.MS_BIND|unix.MS_REC, ""); err == nil {
			err = unix.Mount("", dir, "none", unix.MS_SHARED|unix.MS_REC, "")
		}
	}
	if err != nil {
		return fmt.Errorf("make %s a shared mount, as 'ip netns add' does: %w", dir, err)
	}
	return nil
}

// EnterCommand returns the shell command that enters the namespace: by its name
// if it has one; else through this process, for as long as it runs.
func (n *NS) EnterCommand() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case n.bound != "" && filepath.Dir(n.bound) == namedDir:
		return "ip netns exec " + filepath.Base(n.bound)
	case n.bound != "":
		return "nsenter --net=" + n.bound
	case InUserNamespace():
		return fmt.Sprintf("nsenter --target %d --user --preserve-credentials --mount --net=%s", os.Getpid(), n.Path())
	}
	return "nsenter --net=" + n.Path()
}

func (n *NS) bindIn(dir, name string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.bound != "" {
		return fmt.Errorf("name network namespace %s: it already has the name %s", n.name, n.bound)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("name network namespace %s: %w", n.name, err)
	}
	path := filepath.Join(dir, name)
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDONLY, 0o444)
	if err != nil {
		return fmt.Errorf("name network namespace %s (remove an old one with `ip netns del %s`): %w", n.name, name, err)
	}
	file.Close()
	if err := unix.Mount(n.Path(), path, "", unix.MS_BIND, ""); err != nil {
		return errors.Join(fmt.Errorf("mount network namespace %s on %s: %w", n.name, path, err), os.Remove(path))
	}
	n.bound = path
	return nil
}

func (n *NS) unbind() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.bound == "" {
		return nil
	}
	if err := unix.Unmount(n.bound, unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unmount %s: %w", n.bound, err)
	}
	path := n.bound
	n.bound = ""
	return os.Remove(path)
}
