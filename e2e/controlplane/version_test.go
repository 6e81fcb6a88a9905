// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"fmt"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/proxy"
	"github.com/nftproxy/nftproxy/reason"
)

// With `make e2e-versions` some tests of this package run against the servers of another version: serversEnv is their program, versionEnv
// the version that it must be.
const (
	serversEnv = "NFTPROXY_SERVERS"
	versionEnv = "NFTPROXY_SERVERS_VERSION"
)

// versionsPage has a row for each version.
const versionsPage = "../../docs/versioning.md"

// moreAddresses is the range of a second ServiceCIDR. It does not touch the first one: the kernel has ranges that do as one.
const moreAddresses = "10.200.0.0/24"

// TestVersion follows a list and a watch of each resource that nftproxy reads into the kernel, and its Events to the API server, with the
// rights of the manifests. It is the same with each version.
func TestVersion(t *testing.T) {
	want := os.Getenv(versionEnv)
	if want == "" {
		t.Skip("make e2e-versions runs it")
	}
	s := &versionSite{site: newSite(t)}
	version, err := s.cp.Client().Discovery().ServerVersion()
	must(t, err)
	if version.GitVersion != "v"+want {
		t.Fatalf("the API server is of %s, want v%s", version.GitVersion, want)
	}
	page, err := os.ReadFile(versionsPage)
	must(t, err)
	if !strings.Contains(string(page), "| "+want+" |") {
		t.Errorf("%s has no row for %s", versionsPage, want)
	}
	s.prepare()
	a := s.account()
	p := a.start()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the log of nftproxy:\n%s", p.Log())
		}
	})

	t.Log("lists")
	s.want(s.near, s.hosts[0]) // the Service, its slice with hints, and the zone of the Node
	s.wantTables(true, ServiceRange4, ServiceRange6)
	s.wantEvent("Starting")

	t.Log("watches")
	s.setZone("node", "b")
	s.want(s.near, s.hosts[1])
	s.backend("other", s.hosts[2])
	s.want(s.near, s.hosts[1], s.hosts[2])
	far := s.service("far", nil)
	s.want(far)
	must(t, s.cp.Client().CoreV1().Services("shop").Delete(t.Context(), "far", metav1.DeleteOptions{}))
	s.wantTables(false, far.Spec.ClusterIPs...)
	s.followServiceCIDR()

	t.Log("Events")
	s.conflictUntil(func() bool { return s.hasSeries(reason.EventConflict) })

	s.nothingRefused(p) // what comes is of an API server that is not there, or does not yet know who may what

	t.Log("an API server that comes back")
	must(t, s.cp.RestartAPIServer(t.Context(), 0))
	s.setZone("node", "a")
	s.want(s.near, s.hosts[0])
	must(t, p.Stop())
}

// versionSite has a Service whose clients stay in their zone: from this node in zone a they reach the first of the hosts, from zone b the
// second one and the third.
type versionSite struct {
	*site
	near  *corev1.Service
	hosts []netns.Host
}

// prepare makes what nftproxy finds at its start.
func (s *versionSite) prepare() {
	s.t.Helper()
	ctx := s.t.Context()
	must(s.t, s.cp.EnsureNamespace(ctx, "shop"))
	must(s.t, s.cp.CreateNode(ctx, NodeSpec{Name: "other", Zone: "b", IPs: []netip.Addr{netip.MustParseAddr("172.18.0.99")}}))
	s.setZone("node", "a")
	s.setZone("remote", "a")
	s.hosts = s.RemotePods[:3]
	s.near = s.service("near", func(svc *corev1.Service) {
		svc.Spec.TrafficDistribution = new(corev1.ServiceTrafficDistributionPreferSameZone)
	})
	s.backend("remote", s.hosts[0])
	s.backend("other", s.hosts[1])
	s.waitHints(2)
}

// backend makes a pod of the Service near on a node.
func (s *versionSite) backend(node string, h netns.Host) {
	s.t.Helper()
	must(s.t, s.cp.CreateBackends(s.t.Context(), "shop", "near", []PodSpec{{Name: podName("near", h), Node: node, IPs: []netip.Addr{h.V4, h.V6}}}))
}

// setZone says in which zone a node is.
func (s *versionSite) setZone(node, zone string) {
	s.t.Helper()
	patch := fmt.Appendf(nil, `{"metadata": {"labels": {%q: %q}}}`, corev1.LabelTopologyZone, zone)
	_, err := s.cp.Client().CoreV1().Nodes().Patch(s.t.Context(), node, types.MergePatchType, patch, metav1.PatchOptions{})
	must(s.t, err)
}

// waitHints waits until both families' slices have n endpoints with hints. The controller may have seen a pod before its node's zone: each
// try changes the Service, for the controller to look again.
func (s *versionSite) waitHints(n int) {
	s.t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(200 * time.Millisecond) {
		list, err := s.cp.Client().DiscoveryV1().EndpointSlices("shop").List(s.t.Context(),
			metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=near"})
		must(s.t, err)
		hinted := 0
		for _, slice := range list.Items {
			for _, e := range slice.Endpoints {
				if e.Hints != nil && len(e.Hints.ForZones) == 1 {
					hinted++
				}
			}
		}
		if hinted == 2*n {
			return
		}
		if time.Now().After(end) {
			s.t.Fatalf("%d endpoints have hints, want %d: %v", hinted, 2*n, list.Items)
		}
		patch := fmt.Appendf(nil, `{"metadata": {"annotations": {"test/try": "%d"}}}`, time.Now().UnixNano())
		_, err = s.cp.Client().CoreV1().Services("shop").Patch(s.t.Context(), "near", types.MergePatchType, patch, metav1.PatchOptions{})
		must(s.t, err)
	}
}

// wantTables waits until the kernel's tables have all the texts, or none of them.
func (s *versionSite) wantTables(has bool, texts ...string) {
	s.t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		tables := s.run("dump", "--kernel")
		right := true
		for _, text := range texts {
			right = right && regexp.MustCompile(`\b`+regexp.QuoteMeta(text)+`\b`).MatchString(tables) == has
		}
		if right {
			return
		}
		if time.Now().After(end) {
			s.t.Fatalf("the tables do not become so that they have %q: %v:\n%s", texts, has, tables)
		}
	}
}

// followServiceCIDR makes one and deletes it.
func (s *versionSite) followServiceCIDR() {
	s.t.Helper()
	cidrs := s.cp.Client().NetworkingV1().ServiceCIDRs()
	_, err := cidrs.Create(s.t.Context(), &networkingv1.ServiceCIDR{ObjectMeta: metav1.ObjectMeta{Name: "more"},
		Spec: networkingv1.ServiceCIDRSpec{CIDRs: []string{moreAddresses}}}, metav1.CreateOptions{})
	must(s.t, err)
	s.wantTables(true, moreAddresses)
	must(s.t, cidrs.Delete(s.t.Context(), "more", metav1.DeleteOptions{}))
	s.wantTables(false, moreAddresses)
}

// hasSeries says whether an Event of nftproxy's was created and changed later.
func (s *versionSite) hasSeries(reason string) bool {
	s.t.Helper()
	list, err := s.cp.Client().EventsV1().Events(metav1.NamespaceAll).List(s.t.Context(), metav1.ListOptions{})
	must(s.t, err)
	for _, e := range list.Items {
		if e.ReportingController == "nftproxy" && e.Reason == reason && e.Series != nil && e.Series.Count > 1 {
			return true
		}
	}
	return false
}

// nothingRefused looks in the log for what an API server of another version would not know.
func (s *versionSite) nothingRefused(p *proxy.Process) {
	s.t.Helper()
	for line := range strings.Lines(p.Log()) {
		for _, bad := range []string{"forbidden", "could not find", "not found", "unsupported", "deprecated", "unknown field", "going on without"} {
			if strings.Contains(line, bad) {
				s.t.Errorf("the log says %s", line)
			}
		}
	}
}
