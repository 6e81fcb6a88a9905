// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"

	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/nftproxy/nftproxy/e2e/controlplane"
	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/proxy"
	"github.com/nftproxy/nftproxy/e2e/traffic"
)

const (
	nodeName   = "node"
	remoteName = "remote"
	remotePods = 40
	localPods  = 4
)

// site is the network, with servers in its pods, a control plane, and nftproxy on the node.
type site struct {
	*netns.Cluster
	pods     []pod
	servers  []*traffic.Server
	services []*service
	cp       *controlplane.ControlPlane
	dir      string // of temporary files
	program  string // nftproxy's executable
	proxy    *proxy.Process
}

// newSite makes everything but nftproxy's process. The caller closes it.
func newSite(ctx context.Context, services int, program string) (*site, error) {
	s := &site{program: program}
	err := s.connect()
	if err == nil {
		s.services = newServices(services, s.pods)
		err = s.startControlPlane(ctx)
	}
	if err == nil {
		err = s.createAll(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// connect makes the network and the servers in all pods.
func (s *site) connect() (err error) {
	if s.Cluster, err = netns.NewCluster(netns.Config{LocalPods: localPods, RemotePods: remotePods}); err != nil {
		return err
	}
	for _, h := range s.Local {
		s.pods = append(s.pods, pod{h, h.Name(), nodeName})
		if err := s.serve(h.NS, h); err != nil {
			return err
		}
	}
	for i, h := range s.RemotePods {
		s.pods = append(s.pods, pod{h, fmt.Sprintf("remote%d", i+1), remoteName})
	}
	if err := s.serve(s.Remote.NS, s.RemotePods...); err != nil {
		return err
	}
	// Thousands of flows come each minute, none of which a busy machine keeps waiting for long.
	for name, value := range map[string]string{
		"netfilter/nf_conntrack_udp_timeout": "30", "netfilter/nf_conntrack_udp_timeout_stream": "60",
		"netfilter/nf_conntrack_sctp_timeout_cookie_wait": "60",
	} {
		if err := s.Node.SetSysctl(name, value); err != nil {
			return err
		}
	}
	return nil
}

// serve opens the ports of pods in a namespace.
func (s *site) serve(ns *netns.NS, pods ...netns.Host) error {
	var addrs []netip.Addr
	for _, p := range pods {
		addrs = append(addrs, p.V4, p.V6)
	}
	all := traffic.Protocols()
	server, err := traffic.Serve(ns, traffic.Endpoints(addrs, []uint16{podPort}, all[:]...)...)
	if err == nil {
		s.servers = append(s.servers, server)
	}
	return err
}

func (s *site) startControlPlane(ctx context.Context) (err error) {
	if s.dir, err = os.MkdirTemp("", "nftproxy-soak-"); err != nil {
		return err
	}
	s.cp, err = controlplane.Start(ctx, controlplane.Config{NetNS: s.Outside.Fd(), Address: s.Outside.V4, Dir: s.dir})
	if err != nil {
		return err
	}
	for name, h := range map[string]netns.Host{nodeName: s.Node, remoteName: s.Remote} {
		if err := s.cp.CreateNode(ctx, controlplane.NodeSpec{Name: name, IPs: []netip.Addr{h.V4, h.V6}}); err != nil {
			return err
		}
	}
	return s.cp.EnsureNamespace(ctx, namespace)
}

// createAll creates all Services with their endpoints.
func (s *site) createAll(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(mostWriters)
	for _, svc := range s.services {
		g.Go(func() error { return s.create(ctx, svc) })
	}
	if err := g.Wait(); err != nil {
		return fmt.Errorf("create %d Services: %w", len(s.services), err)
	}
	return nil
}

func (s *site) create(ctx context.Context, svc *service) error {
	if _, err := s.cp.Client().CoreV1().Services(namespace).Create(ctx, svc.object(), metav1.CreateOptions{}); err != nil {
		return err
	}
	slices := s.cp.Client().DiscoveryV1().EndpointSlices(namespace)
	for _, f := range svc.families {
		if _, err := slices.Create(ctx, svc.slice(f, svc.crowds[f].now), metav1.CreateOptions{}); err != nil {
			return err
		}
	}
	return nil
}

// startProxy starts nftproxy and waits until it has programmed everything.
func (s *site) startProxy(ctx context.Context) (err error) {
	// It leaves the machine's own conntrack settings alone, which are not the namespace's.
	args := []string{"run", "--kubeconfig=" + s.cp.Kubeconfig(), "--hostname-override=" + nodeName,
		"--cluster-cidr=" + netns.ClusterCIDR4 + "," + netns.ClusterCIDR6,
		"--conntrack-max-per-core=0", "--conntrack-tcp-timeout-established=0", "--conntrack-tcp-timeout-close-wait=0"}
	if s.proxy, err = proxy.Start(proxy.Config{Program: s.program, Args: args, NS: s.Node.NS}); err != nil {
		return err
	}
	return s.proxy.WaitSynced(ctx)
}

// diff runs 'nftproxy diff' on the node. Its error has what it wrote, if something differs.
func (s *site) diff(ctx context.Context) (string, error) {
	out, err := proxy.Run(ctx, proxy.Config{Program: s.program, Args: []string{"diff"}, NS: s.Node.NS})
	if err != nil {
		return out, fmt.Errorf("nftproxy diff: %w: %s", err, out)
	}
	return out, nil
}

// close ends everything. No process and no file stays.
func (s *site) close() error {
	var errs []error
	if s.proxy != nil {
		errs = append(errs, s.proxy.Stop())
	}
	if s.cp != nil {
		errs = append(errs, s.cp.Stop())
	}
	for _, server := range s.servers {
		errs = append(errs, server.Close())
	}
	if s.dir != "" {
		errs = append(errs, os.RemoveAll(s.dir))
	}
	if s.Cluster != nil {
		errs = append(errs, s.Cluster.Close())
	}
	return errors.Join(errs...)
}
