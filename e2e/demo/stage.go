// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/proxy"
	"github.com/nftproxy/nftproxy/e2e/traffic"
)

// setUp makes the directory of manifests, the cluster and the servers in its pods,
// and returns what the manifests ask for. What it has made before an error,
// tearDown removes.
func (d *demo) setUp() ([]target, error) {
	dir, err := os.MkdirTemp("", "nftproxy-demo-")
	if err != nil {
		return nil, fmt.Errorf("make directory of manifests: %w", err)
	}
	d.dir, d.manifests.Dir = dir, filepath.Join(dir, "manifests")
	if err = os.Mkdir(d.manifests.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("make directory of manifests: %w", err)
	}
	if err = copyManifests(d.from, &d.manifests); err != nil {
		return nil, err
	}
	targets, err := readTargets(d.manifests.Dir)
	if err != nil {
		return nil, err
	}
	if d.cluster, err = netns.NewCluster(netns.Config{LocalPods: 2, RemotePods: 3}); err != nil {
		return nil, err
	}
	d.names = namesOf(d.cluster)
	if d.keep {
		if err := d.cluster.Keep(d.name); err != nil {
			return nil, err
		}
	}
	return targets, d.serve(backendPorts(targets))
}

// serve makes every pod answer at the ports, in all protocols.
func (d *demo) serve(ports []uint16) error {
	hosts := map[*netns.NS][]netip.Addr{}
	for _, h := range slices.Concat(d.cluster.Local, d.cluster.RemotePods) {
		hosts[h.NS] = append(hosts[h.NS], h.V4, h.V6)
	}
	all := traffic.Protocols()
	for ns, addrs := range hosts {
		s, err := traffic.Serve(ns, traffic.Endpoints(addrs, ports, all[:]...)...)
		if err != nil {
			return err
		}
		d.servers = append(d.servers, s)
	}
	return nil
}

// startProxy starts nftproxy on the node.
func (d *demo) startProxy() error {
	p, err := proxy.Start(proxy.Config{
		Program: d.bin,
		Args: []string{"run", "--manifests", d.manifests.Dir, "--hostname-override", "node",
			"--cluster-cidr", netns.ClusterCIDR4 + "," + netns.ClusterCIDR6, "--socket", socketIn(d.dir, d.keep)},
		NS:  d.cluster.Node.NS,
		Log: &d.log,
	})
	if err == nil {
		d.nftproxy = p
	}
	return err
}

// socketIn returns where nftproxy answers, with --keep: the default one would be the same for several demos.
func socketIn(dir string, keep bool) string {
	if !keep {
		return ""
	}
	return filepath.Join(dir, "nftproxy.sock")
}

// tearDown removes everything. In a hurry nftproxy gets no chance to end cleanly;
// perhaps it got the signal, too.
func (d *demo) tearDown(hurry bool) error {
	var errs []error
	if d.nftproxy != nil {
		if hurry {
			d.nftproxy.Kill()
		} else {
			errs = append(errs, d.nftproxy.Stop())
		}
	}
	for _, s := range d.servers {
		errs = append(errs, s.Close())
	}
	if d.cluster != nil {
		errs = append(errs, d.cluster.Close())
	}
	if d.dir != "" {
		errs = append(errs, os.RemoveAll(d.dir))
	}
	return errors.Join(errs...)
}
