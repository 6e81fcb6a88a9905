// SPDX-License-Identifier: Apache-2.0

//go:build linux

package cluster

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/nftproxy/nftproxy/e2e/netns"
)

// Node is a node of the cluster.
type Node struct {
	netns.Host
	config  nodeConfig
	cgroups cgroups
	cmd     *exec.Cmd
	exited  chan struct{}
}

// Files of a node, in its folder.
const (
	containerdConfigFile = "containerd.toml"
	kubeletConfigFile    = "kubelet.yaml"
	cniConfigFile        = "net.d/10-pods.conflist"
	resolvFile           = "resolv.conf"
)

// newNode writes the files of node i and makes its control groups.
func newNode(i int, host netns.Host, dir, kubeconfig string, config Config) (*Node, error) {
	n := &Node{Host: host, config: nodeConfig{Name: host.Name(), Dir: filepath.Join(dir, host.Name()), BinDir: config.BinDir}}
	for file, text := range map[string]string{
		containerdConfigFile: containerdConfig(n.config),
		kubeletConfigFile:    kubeletConfig(n.config, filepath.Base(dir)),
		cniConfigFile:        cniConfig(i, config),
		resolvFile:           "",
	} {
		path := filepath.Join(n.config.Dir, file)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return nil, err
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return nil, err
		}
	}
	families := config.families()
	n.config.Kubelet = append([]string{
		"--config=" + filepath.Join(n.config.Dir, kubeletConfigFile),
		"--kubeconfig=" + kubeconfig,
		"--root-dir=" + filepath.Join(n.config.Dir, "kubelet"),
		"--cert-dir=" + filepath.Join(n.config.Dir, "pki"),
		"--hostname-override=" + n.config.Name,
		"--node-ip=" + host.Addr(families[0]).String() + "," + host.Addr(families[1]).String(),
	}, config.KubeletArgs...)
	var err error
	n.cgroups, err = newCgroups(filepath.Base(dir))
	n.config.Cgroups = n.cgroups
	return n, err
}

// start starts the node's first process.
func (n *Node) start() error {
	config, err := json.Marshal(n.config)
	if err != nil {
		return err
	}
	log, err := os.Create(filepath.Join(n.config.Dir, "node.log"))
	if err != nil {
		return err
	}
	defer log.Close()
	n.cmd = &exec.Cmd{
		Path: "/proc/self/exe",
		Args: []string{n.config.Name},
		Env:  []string{childEnv + "=" + childNode, configEnv + "=" + string(config)},
		Dir:  n.config.Dir, Stdout: log, Stderr: log,
		SysProcAttr: &syscall.SysProcAttr{
			Pdeathsig:  syscall.SIGKILL,
			Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC,
		},
	}
	if err := n.Do(n.cmd.Start); err != nil {
		n.cmd = nil
		return fmt.Errorf("start %s: %w", n.Name(), err)
	}
	n.exited = make(chan struct{})
	go func() {
		_ = n.cmd.Wait()
		close(n.exited)
	}()
	return nil
}

// Kill ends all processes of the node at once, as a power cut does. What is in its
// network namespace stays.
func (n *Node) Kill() {
	if n.cmd != nil {
		_ = n.cmd.Process.Kill()
		<-n.exited
	}
}

// importImages loads an OCI archive into the node's containerd.
func (n *Node) importImages(file string) error {
	out, err := n.ctr("images", "import", file)
	if err != nil {
		return fmt.Errorf("import %s on %s: %w\n%s", file, n.Name(), err, out)
	}
	return nil
}

// exec runs a command in a container and returns what it printed.
func (n *Node) exec(container string, command []string) (string, error) {
	// The shim opens the FIFOs in the node's mount namespace, where /run is another one.
	return n.ctr(append([]string{"tasks", "exec", "--exec-id", fmt.Sprintf("exec-%d", time.Now().UnixNano()),
		"--fifo-dir", n.config.Dir, container}, command...)...)
}

func (n *Node) ctr(args ...string) (string, error) {
	cmd := exec.Command(filepath.Join(n.config.BinDir, "ctr"),
		append([]string{"--address", n.config.containerdSocket(), "--namespace", "k8s.io"}, args...)...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// logs returns the last lines of what the node's programs and pods wrote.
func (n *Node) logs() string {
	files, _ := filepath.Glob(filepath.Join(n.config.Dir, "*.log"))
	pods, _ := filepath.Glob(filepath.Join(n.config.Dir, "var/log/pods/*/*/*.log"))
	var b strings.Builder
	for _, file := range append(files, pods...) {
		data, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		lines := strings.Split(strings.TrimSpace(string(data)), "\n")
		fmt.Fprintf(&b, "last lines of %s:\n  %s\n", file, strings.Join(lines[max(0, len(lines)-25):], "\n  "))
	}
	return b.String()
}
