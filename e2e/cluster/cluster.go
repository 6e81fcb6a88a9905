// SPDX-License-Identifier: Apache-2.0

//go:build linux

package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/nftproxy/nftproxy/e2e/controlplane"
	"github.com/nftproxy/nftproxy/e2e/netns"
)

// Config says what a cluster is made of.
type Config struct {
	Nodes  int    // at most 8
	BinDir string // absolute; has containerd, containerd-shim-runc-v2 and ctr
	// Images are OCI archives that every node gets. One must have the sandbox image.
	Images []string
	// ControllerArgs and KubeletArgs are further arguments of kube-controller-manager and of the kubelets.
	ControllerArgs, KubeletArgs []string
	// IPv6First makes IPv6 the first family of the API server, nodes, pods and Services.
	IPv6First bool
	// HostPorts has the CNI plugin portmap connect pods' host ports, with iptables.
	HostPorts bool
	// Bridge has the CNI plugin bridge connect the pods of a node. By default ptp does.
	Bridge bool
	Logf   func(format string, args ...any)
}

// pauseImage is the image that keeps a pod's namespaces.
const pauseImage = "docker.io/library/e2e-pause:latest"

// nodeTimeout is how long a node may take to become ready, beside others that start.
const nodeTimeout = 5 * time.Minute

// families returns the IP versions, the first one first.
func (c Config) families() []netns.Family {
	families := netns.Families()
	if c.IPv6First {
		slices.Reverse(families[:])
	}
	return families[:]
}

// Cluster is a running cluster.
type Cluster struct {
	*controlplane.ControlPlane
	Network *netns.Nodes
	Nodes   []*Node
	dir     string
}

// Start starts a cluster and returns when all nodes are ready. On an error nothing is left.
func Start(ctx context.Context, config Config) (*Cluster, error) {
	c := &Cluster{}
	if err := c.start(ctx, config); err != nil {
		err = fmt.Errorf("start cluster: %w\n%s", err, c.Logs())
		return nil, errors.Join(err, c.Stop())
	}
	return c, nil
}

func (c *Cluster) start(ctx context.Context, config Config) error {
	began := time.Now()
	var err error
	if c.dir, err = os.MkdirTemp("", "nftproxy-e2e-"); err != nil {
		return err
	}
	if c.Network, err = netns.NewNodes(config.Nodes); err != nil {
		return err
	}
	outside := c.Network.Outside
	c.ControlPlane, err = controlplane.Start(ctx, controlplane.Config{
		NetNS: outside.Fd(), Address: outside.Addr(config.families()[0]), Dir: c.dir, Workloads: true,
		ControllerArgs: config.ControllerArgs,
	})
	if err != nil {
		return err
	}
	config.Logf("the control plane works after %.1f s", time.Since(began).Seconds())
	for i, host := range c.Network.Nodes {
		if err := c.addNode(ctx, i, host, config); err != nil {
			return err
		}
	}
	if err := c.importImages(config.Images); err != nil {
		return err
	}
	for _, n := range c.Nodes {
		if err := c.waitNode(ctx, n.Name(), corev1.ConditionTrue); err != nil {
			return err
		}
	}
	config.Logf("%d nodes are ready after %.1f s", len(c.Nodes), time.Since(began).Seconds())
	return nil
}

// addNode registers a node with the range of its pods and starts it.
func (c *Cluster) addNode(ctx context.Context, i int, host netns.Host, config Config) error {
	object := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: host.Name(), Labels: map[string]string{
		corev1.LabelHostname: host.Name(), corev1.LabelOSStable: "linux"}}}
	for _, f := range config.families() {
		object.Spec.PodCIDRs = append(object.Spec.PodCIDRs, netns.NodePods(f, i).String())
	}
	object.Spec.PodCIDR = object.Spec.PodCIDRs[0]
	if _, err := c.Client().CoreV1().Nodes().Create(ctx, object, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("create node %s: %w", host.Name(), err)
	}
	kubeconfig, err := c.MakeKubeconfig("system:node:"+host.Name(), "system:nodes")
	if err != nil {
		return err
	}
	n, err := newNode(i, host, c.dir, kubeconfig, config)
	if n != nil {
		c.Nodes = append(c.Nodes, n)
	}
	if err != nil {
		return fmt.Errorf("set up %s: %w", host.Name(), err)
	}
	return n.start()
}

func (c *Cluster) importImages(files []string) error {
	var wg sync.WaitGroup
	errs := make([]error, len(c.Nodes))
	for i, n := range c.Nodes {
		wg.Go(func() {
			if errs[i] = waitFile(n.config.containerdSocket()); errs[i] != nil {
				return
			}
			for _, file := range files {
				errs[i] = errors.Join(errs[i], n.importImages(file))
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// waitNode waits until the node's condition Ready has the status.
func (c *Cluster) waitNode(ctx context.Context, name string, want corev1.ConditionStatus) error {
	return Poll(ctx, nodeTimeout, func(ctx context.Context) error {
		node, err := c.Client().CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		for _, condition := range node.Status.Conditions {
			if condition.Type == corev1.NodeReady && condition.Status == want {
				return nil
			}
		}
		return fmt.Errorf("node %s: Ready is not %s: %v", name, want, node.Status.Conditions)
	})
}

// Poll calls fn until it returns nil, and returns its last error when time is up.
func Poll(ctx context.Context, timeout time.Duration, fn func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	for {
		err := fn(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("after %v: %w", timeout, err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// Logs returns the last lines of all programs and pods.
func (c *Cluster) Logs() string {
	var b strings.Builder
	for _, n := range c.Nodes {
		b.WriteString(n.logs())
	}
	if c.ControlPlane != nil {
		b.WriteString(c.ControlPlane.Logs())
	}
	return b.String()
}

// Stop ends everything and removes what it left: processes, control groups, namespaces and files.
func (c *Cluster) Stop() error {
	var errs []error
	for _, n := range c.Nodes {
		n.Kill()
	}
	for _, n := range c.Nodes {
		errs = append(errs, n.cgroups.remove())
	}
	if c.ControlPlane != nil {
		errs = append(errs, c.ControlPlane.Stop())
	}
	if c.Network != nil {
		errs = append(errs, c.Network.Close())
	}
	if c.dir != "" {
		errs = append(errs, os.RemoveAll(c.dir))
	}
	return errors.Join(errs...)
}
