// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"slices"
	"testing"

	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/netns/netnstest"
	"github.com/nftproxy/nftproxy/e2e/proxy"
	"github.com/nftproxy/nftproxy/e2e/traffic"
)

// The built-in manifests are valid, every endpoint is a pod of the cluster, and
// every change changes the web service and nothing else.
func TestBuiltIn(t *testing.T) {
	d := demo{names: namesOf(netnstest.NewCluster(t, netns.Config{LocalPods: 2, RemotePods: 3}))}
	d.manifests = proxy.Manifests{Dir: t.TempDir()}
	if err := copyManifests("", &d.manifests); err != nil {
		t.Fatal(err)
	}
	before := readTest(t, &d)
	ports := backendPorts(before)
	for _, c := range changes() {
		data, err := builtIn(c.directory, c.file)
		if err != nil {
			t.Fatal(err)
		}
		if err := d.manifests.Write(endpointsFile, data); err != nil {
			t.Fatal(err)
		}
		after := readTest(t, &d)
		different := changed(before, after)
		if len(different) != 4 || slices.ContainsFunc(different, func(t target) bool { return t.service != "web" }) {
			t.Errorf("%s: changes %v, want the 4 addresses and ports of web", c.what, different)
		}
		for _, p := range backendPorts(after) {
			if !slices.Contains(ports, p) {
				t.Errorf("%s: port %d, where nobody answers", c.what, p)
			}
		}
		before = after
	}
}

// readTest reads the directory and checks its endpoints.
func readTest(t *testing.T, d *demo) []target {
	t.Helper()
	targets, err := readTargets(d.manifests.Dir)
	if err != nil {
		t.Fatal(err)
	}
	protocols := map[traffic.Protocol]bool{}
	for _, target := range targets {
		protocols[target.protocol] = true
		for _, b := range target.backends {
			if d.names[b.Addr()] == "" {
				t.Errorf("%s: %s is no pod", target.service, b)
			}
		}
	}
	if len(targets) != 18 || len(protocols) != 3 {
		t.Errorf("%d targets of %d protocols, want 18 of 3", len(targets), len(protocols))
	}
	return targets
}
