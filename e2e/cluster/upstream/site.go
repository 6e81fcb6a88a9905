// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"log"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/nftproxy/nftproxy/e2e/cluster"
	"github.com/nftproxy/nftproxy/e2e/netns"
)

//go:embed dns.yaml
var dnsManifest string

// dnsAddresses are the DNS server's in the ranges of ClusterIPs.
var dnsAddresses = map[netns.Family]string{netns.IPv4: "10.96.0.10", netns.IPv6: "fd00:10:96::a"}

// dnsServers are how many pods dns.yaml makes.
const dnsServers = 2

// zones are how many zones the nodes are in, where there are enough nodes.
const zones = 3

// site is a cluster with a proxy and a DNS server.
type site struct {
	*cluster.Cluster
	proxies []*exec.Cmd // kube-proxies
}

func newSite(ctx context.Context, o options, nodes int) (*site, error) {
	first := netns.IPv4
	if o.ipv6First {
		first = netns.IPv6
	}
	c, err := cluster.Start(ctx, cluster.Config{
		Nodes: nodes, BinDir: o.bin, Images: o.images, Logf: log.Printf, IPv6First: o.ipv6First, HostPorts: true,
		ControllerArgs: []string{"--controllers=*", "--node-monitor-grace-period=2m"},
		KubeletArgs: []string{"--cluster-dns=" + dnsAddresses[first], "--cluster-domain=cluster.local",
			"--local-storage-capacity-isolation=true", "--serialize-image-pulls=false"},
	})
	if err != nil {
		return nil, err
	}
	s := &site{Cluster: c}
	if err := s.prepare(ctx, o, first); err != nil {
		return nil, errors.Join(err, s.stop())
	}
	return s, nil
}

func (s *site) prepare(ctx context.Context, o options, first netns.Family) error {
	if err := s.podRoutes(); err != nil {
		return err
	}
	if err := s.label(ctx); err != nil {
		return err
	}
	if err := s.proxy(ctx, o); err != nil {
		return err
	}
	if err := s.Apply(ctx, strings.ReplaceAll(dnsManifest, "DNS_ADDRESS", dnsAddresses[first]), false); err != nil {
		return err
	}
	want := dnsServers
	if o.proxy == "nftproxy" {
		want += len(s.Nodes)
	}
	return cluster.Poll(ctx, 5*time.Minute, func(ctx context.Context) error {
		pods, err := s.Client().CoreV1().Pods("kube-system").List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		ready := 0
		for _, p := range pods.Items {
			if slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue }) {
				ready++
			}
		}
		if ready < want {
			return fmt.Errorf("%d of %d pods in kube-system are ready", ready, want)
		}
		return nil
	})
}

// podRoutes makes pods reachable for the API server and the tests, as on a control plane's node.
func (s *site) podRoutes() error {
	handle, err := s.Network.Outside.Netlink()
	if err != nil {
		return err
	}
	defer handle.Close()
	for i, n := range s.Network.Nodes {
		for _, family := range netns.Families() {
			_, dst, err := net.ParseCIDR(netns.NodePods(family, i).String())
			if err != nil {
				return err
			}
			if err := handle.RouteAdd(&netlink.Route{Dst: dst, Gw: n.Addr(family).AsSlice()}); err != nil {
				return fmt.Errorf("add route to %s: %w", dst, err)
			}
		}
	}
	return nil
}

// label puts the nodes into zones, two nodes into each.
func (s *site) label(ctx context.Context) error {
	if len(s.Nodes) < 2*zones {
		return nil
	}
	for i, n := range s.Nodes {
		patch := fmt.Appendf(nil, `{"metadata":{"labels":{"topology.kubernetes.io/zone":"zone%d"}}}`, i%zones+1)
		if _, err := s.Client().CoreV1().Nodes().Patch(ctx, n.Name(), types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
			return fmt.Errorf("put %s into a zone: %w", n.Name(), err)
		}
	}
	return nil
}

func (s *site) proxy(ctx context.Context, o options) error {
	if o.proxy == "kube-proxy" {
		return s.startKubeProxies(o)
	}
	data, err := os.ReadFile(o.deploy)
	if err != nil {
		return err
	}
	text, err := s.manifest(string(data))
	if err != nil {
		return fmt.Errorf("edit %s: %w", o.deploy, err)
	}
	return s.Apply(ctx, text, false)
}

// manifest edits deploy/nftproxy.yaml as its comments say. Node ports are on loopback addresses, too, as specs of
// LocalhostNodePorts ask.
func (s *site) manifest(text string) (string, error) {
	api := s.Address()
	for _, edit := range [][2]string{
		{"# - name: KUBERNETES_SERVICE_HOST", "- name: KUBERNETES_SERVICE_HOST"},
		{"#   value: 192.0.2.10", "  value: " + strconv.Quote(api.Addr().String())},
		{"# - name: KUBERNETES_SERVICE_PORT", "- name: KUBERNETES_SERVICE_PORT"},
		{`#   value: "6443"`, fmt.Sprintf("  value: \"%d\"", api.Port())},
		{`clusterCIDR: "` + netns.ClusterCIDR4 + `"`, `clusterCIDR: "` + netns.ClusterCIDR4 + "," + netns.ClusterCIDR6 + `"`},
		{"    metricsBindAddress:", "    nodePortAddresses: [primary, localhost]\n    metricsBindAddress:"},
	} {
		if n := strings.Count(text, edit[0]); n != 1 {
			return "", fmt.Errorf("it has %d times %q, want it once", n, edit[0])
		}
		text = strings.Replace(text, edit[0], edit[1], 1)
	}
	return text, nil
}

// startKubeProxies starts Kubernetes' own proxy on each node.
func (s *site) startKubeProxies(o options) error {
	for _, n := range s.Nodes {
		file, err := os.Create(filepath.Join(o.out, "kube-proxy-"+n.Name()+".log"))
		if err != nil {
			return err
		}
		cmd := exec.Command(o.kubeProxy, "--kubeconfig="+s.Kubeconfig(), "--hostname-override="+n.Name(), "--proxy-mode=nftables",
			"--cluster-cidr="+netns.ClusterCIDR4+","+netns.ClusterCIDR6)
		cmd.Stdout, cmd.Stderr = file, file
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		err = n.Do(cmd.Start)
		_ = file.Close()
		if err != nil {
			return fmt.Errorf("start kube-proxy on %s: %w", n.Name(), err)
		}
		s.proxies = append(s.proxies, cmd)
	}
	return nil
}

func (s *site) stop() error {
	for _, cmd := range s.proxies {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	return s.Stop()
}
