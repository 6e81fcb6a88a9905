// SPDX-License-Identifier: Apache-2.0

//go:build linux

package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// configEnv has the nodeConfig of a node's first process, as JSON.
const configEnv = "NFTPROXY_CLUSTER_NODE"

// nodeConfig is what a node's first process must know.
type nodeConfig struct {
	Name    string
	Dir     string // for all files of the node
	BinDir  string // has containerd and its shim
	Cgroups []string
	Kubelet []string // arguments
}

func (c nodeConfig) containerdSocket() string { return filepath.Join(c.Dir, "containerd.sock") }

// runNode is the first process of a node. It runs until containerd or the kubelet
// ends, and returns why.
func runNode() error {
	var c nodeConfig
	if err := json.Unmarshal([]byte(os.Getenv(configEnv)), &c); err != nil {
		return fmt.Errorf("read %s: %w", configEnv, err)
	}
	if err := c.prepare(); err != nil {
		return err
	}
	path := "PATH=" + c.BinDir + ":/usr/sbin:/usr/bin:/sbin:/bin"
	containerd, err := c.start("containerd", filepath.Join(c.BinDir, "containerd"), []string{path},
		"--config", filepath.Join(c.Dir, containerdConfigFile))
	if err != nil {
		return err
	}
	if err := waitFile(c.containerdSocket()); err != nil {
		return err
	}
	kubelet, err := c.start("kubelet", "/proc/self/exe", []string{path, childEnv + "=" + childKubelet, "HOME=" + c.Dir}, c.Kubelet...)
	if err != nil {
		return err
	}
	return reap(map[int]string{containerd: "containerd", kubelet: "kubelet"})
}

// prepare joins the node's control groups and gives the node its own /proc and those
// folders that kubelet, containerd and the CNI plugins write to by fixed names.
func (c nodeConfig) prepare() error {
	for _, dir := range c.Cgroups {
		if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte("0"), 0); err != nil {
			return fmt.Errorf("join control group: %w", err)
		}
	}
	if err := unix.Sethostname([]byte(c.Name)); err != nil {
		return fmt.Errorf("set host name: %w", err)
	}
	mounts := []struct {
		source, target, kind string
		flags                uintptr
	}{
		{"", "/", "", unix.MS_REC | unix.MS_PRIVATE},
		{"proc", "/proc", "proc", 0},
		{"tmpfs", "/run", "tmpfs", 0},
	}
	for _, target := range []string{"/var/lib", "/var/log", "/opt"} {
		own := filepath.Join(c.Dir, target)
		if err := os.MkdirAll(own, 0o755); err != nil {
			return err
		}
		mounts = append(mounts, struct {
			source, target, kind string
			flags                uintptr
		}{own, target, "", unix.MS_BIND})
	}
	for _, m := range mounts {
		if err := unix.Mount(m.source, m.target, m.kind, m.flags, ""); err != nil {
			return fmt.Errorf("mount %s: %w", m.target, err)
		}
	}
	return nil
}

// start starts a program with its output in a file, and returns its process ID.
func (c nodeConfig) start(name, program string, env []string, args ...string) (int, error) {
	log, err := os.Create(filepath.Join(c.Dir, name+".log"))
	if err != nil {
		return 0, err
	}
	defer log.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		return 0, err
	}
	defer null.Close()
	p, err := os.StartProcess(program, append([]string{name}, args...), &os.ProcAttr{
		Dir: c.Dir, Env: env, Files: []*os.File{null, log, log}})
	if err != nil {
		return 0, fmt.Errorf("start %s: %w", name, err)
	}
	pid := p.Pid
	return pid, p.Release() // reap waits for it
}

// reap waits for all children, as a node's first process inherits orphans, until one
// of the named ends.
func reap(named map[int]string) error {
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return fmt.Errorf("wait for children: %w", err)
		case named[pid] != "":
			return fmt.Errorf("%s ended: exit code %d, signal %d", named[pid], status.ExitStatus(), status.Signal())
		}
	}
}

// socketTimeout is how long containerd may take to start.
const socketTimeout = 3 * time.Minute

func waitFile(path string) error {
	deadline := time.Now().Add(socketTimeout)
	for time.Now().Before(deadline) {
		if _, err := os.Stat(path); err == nil {
			return nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return fmt.Errorf("%s did not appear in %v", path, socketTimeout)
}
