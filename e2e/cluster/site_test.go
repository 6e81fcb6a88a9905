// SPDX-License-Identifier: Apache-2.0

//go:build linux

package cluster

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/netns/netnstest"
	"github.com/nftproxy/nftproxy/e2e/traffic"
)

const (
	repository  = "../.."
	backendPort = 8080
	servicePort = 80
	nodePort    = 30080
	shop        = "default" // the namespace of testdata/shop.yaml
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// site is the cluster with nftproxy on it.
type site struct {
	*Cluster
	t       *testing.T
	clients []*netns.NS // a pod's namespace on each node
}

// newSite starts a cluster of two nodes. It ends with the test, and must leave nothing.
func newSite(t *testing.T) *site {
	t.Helper()
	for _, tool := range []string{"runc", filepath.Join(cniBinDir, "ptp"), filepath.Join(cniBinDir, "host-local")} {
		netnstest.Tool(t, tool)
	}
	bin, err := filepath.Abs(filepath.Join(repository, "bin/cluster"))
	must(t, err)
	images := []string{filepath.Join(bin, "images.tar"), filepath.Join(repository, "dist/nftproxy-image.tar")}
	programs := []string{filepath.Join(bin, "containerd"), filepath.Join(bin, "containerd-shim-runc-v2"), filepath.Join(bin, "ctr")}
	for _, file := range append(programs, images...) {
		if _, err := os.Stat(file); err != nil {
			t.Fatalf("%v: run 'make e2e-cluster', which builds it", err)
		}
	}
	c, err := Start(t.Context(), Config{Nodes: 2, BinDir: bin, Logf: t.Logf, Images: images})
	must(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(c.Logs())
		}
		must(t, c.Stop())
		must(t, leftovers(filepath.Base(c.dir)))
	})
	return &site{Cluster: c, t: t}
}

// leftovers looks for what Stop should have removed: files, control groups, mounts and processes.
func leftovers(name string) error {
	var errs []error
	for _, pattern := range []string{filepath.Join(os.TempDir(), name), cgroupRoot + "/" + name, cgroupRoot + "/*/" + name} {
		if found, _ := filepath.Glob(pattern); len(found) > 0 {
			errs = append(errs, fmt.Errorf("left behind: %s", found))
		}
	}
	if mounts, err := os.ReadFile("/proc/self/mountinfo"); err != nil || strings.Contains(string(mounts), name) {
		errs = append(errs, fmt.Errorf("mounts of %s are left (%w)", name, err))
	}
	if pid, err := findProcess(nil, func(cmdline, environ string) bool { return strings.Contains(cmdline+environ, name) }); err == nil {
		errs = append(errs, fmt.Errorf("process %d is left", pid))
	}
	return errors.Join(errs...)
}

// findProcess returns a process by its command line and environment, whose words are
// between zero bytes; if ns is not nil, one in that network namespace.
func findProcess(ns *netns.NS, match func(cmdline, environ string) bool) (int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return 0, err
	}
	for _, e := range entries {
		var pid int
		if _, err := fmt.Sscanf(e.Name(), "%d", &pid); err != nil || pid == os.Getpid() {
			continue
		}
		if ns != nil && !inside(ns, e.Name()) {
			continue
		}
		cmdline, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		environ, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "environ"))
		if match("\x00"+string(cmdline), "\x00"+string(environ)) {
			return pid, nil
		}
	}
	return 0, errors.New("there is no such process")
}

func inside(ns *netns.NS, pid string) bool {
	a, errA := os.Stat(filepath.Join("/proc", pid, "ns/net"))
	b, errB := os.Stat(ns.Path())
	return errA == nil && errB == nil && os.SameFile(a, b)
}

// install applies deploy/nftproxy.yaml, edited as its comments say, and waits for the DaemonSet.
func (s *site) install() {
	s.t.Helper()
	data, err := os.ReadFile(filepath.Join(repository, "deploy/nftproxy.yaml"))
	must(s.t, err)
	must(s.t, s.Apply(s.t.Context(), s.edited(string(data)), false))
	s.waitNftproxy()
}

// edited uncomments the API server's address in the manifests and fills it in, and both ranges of pods.
func (s *site) edited(text string) string {
	s.t.Helper()
	api := s.Address()
	for old, replacement := range map[string]string{
		"# - name: KUBERNETES_SERVICE_HOST":         "- name: KUBERNETES_SERVICE_HOST",
		"#   value: 192.0.2.10":                     "  value: " + api.Addr().String(),
		"# - name: KUBERNETES_SERVICE_PORT":         "- name: KUBERNETES_SERVICE_PORT",
		`#   value: "6443"`:                         fmt.Sprintf("  value: \"%d\"", api.Port()),
		`clusterCIDR: "` + netns.ClusterCIDR4 + `"`: `clusterCIDR: "` + netns.ClusterCIDR4 + "," + netns.ClusterCIDR6 + `"`,
	} {
		if n := strings.Count(text, old); n != 1 {
			s.t.Fatalf("deploy/nftproxy.yaml has %d times %q, want it once", n, old)
		}
		text = strings.Replace(text, old, replacement, 1)
	}
	return text
}

// waitNftproxy waits until the present generation of the DaemonSet is available on both nodes.
func (s *site) waitNftproxy() {
	s.t.Helper()
	must(s.t, Poll(s.t.Context(), 2*time.Minute, func(ctx context.Context) error {
		ds, err := s.Client().AppsV1().DaemonSets("kube-system").Get(ctx, "nftproxy", metav1.GetOptions{})
		if err != nil {
			return err
		}
		if !daemonSetDone(ds, 2) {
			return fmt.Errorf("DaemonSet nftproxy: %+v", ds.Status)
		}
		return nil
	}))
}

func daemonSetDone(ds *appsv1.DaemonSet, n int32) bool {
	st := ds.Status
	return st.ObservedGeneration == ds.Generation && st.UpdatedNumberScheduled == n && st.NumberAvailable == n && st.DesiredNumberScheduled == n
}

// openShop applies testdata/shop.yaml and waits for its pods.
func (s *site) openShop() {
	s.t.Helper()
	data, err := os.ReadFile("testdata/shop.yaml")
	must(s.t, err)
	must(s.t, s.Apply(s.t.Context(), string(data), false))
	s.waitWeb(4)
	for _, n := range s.Nodes {
		s.clients = append(s.clients, s.client(n.Name()))
	}
}

// client returns the namespace of the client pod on a node.
func (s *site) client(node string) *netns.NS {
	s.t.Helper()
	var ns *netns.NS
	must(s.t, Poll(s.t.Context(), time.Minute, func(ctx context.Context) error {
		pods, err := s.pods(ctx, "client")
		if err != nil {
			return err
		}
		for _, p := range pods {
			if p.Spec.NodeName != node || !ready(p) {
				continue
			}
			pid, err := findProcess(nil, func(_, environ string) bool { return strings.Contains(environ, "\x00POD_UID="+string(p.UID)+"\x00") })
			if err != nil {
				return err
			}
			ns, err = netns.Open("a pod on "+node, fmt.Sprintf("/proc/%d/ns/net", pid))
			return err
		}
		return fmt.Errorf("no client pod is ready on %s", node)
	}))
	s.t.Cleanup(func() { must(s.t, ns.Close()) })
	return ns
}

// pods lists the pods of an app that are not being deleted.
func (s *site) pods(ctx context.Context, app string) ([]corev1.Pod, error) {
	list, err := s.Client().CoreV1().Pods(shop).List(ctx, metav1.ListOptions{LabelSelector: "app=" + app})
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(list.Items, func(p corev1.Pod) bool { return p.DeletionTimestamp != nil }), nil
}

func ready(p corev1.Pod) bool {
	return slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// waitWeb waits until the Deployment web has n pods of its present generation, all
// available, and no others.
func (s *site) waitWeb(n int32) {
	s.t.Helper()
	must(s.t, Poll(s.t.Context(), 2*time.Minute, func(ctx context.Context) error {
		d, err := s.Client().AppsV1().Deployments(shop).Get(ctx, "web", metav1.GetOptions{})
		if err != nil {
			return err
		}
		if st := d.Status; st.ObservedGeneration != d.Generation || st.UpdatedReplicas != n || st.AvailableReplicas != n || st.Replicas != n {
			return fmt.Errorf("Deployment web: %+v", st)
		}
		return nil
	}))
}

// backends returns where the ready web pods answer, in a family.
func (s *site) backends(ctx context.Context, f netns.Family) ([]netip.AddrPort, error) {
	pods, err := s.pods(ctx, "web")
	if err != nil {
		return nil, err
	}
	var list []netip.AddrPort
	for _, p := range pods {
		for _, ip := range p.Status.PodIPs {
			if a := netip.MustParseAddr(ip.IP); ready(p) && a.Is6() == (f == netns.IPv6) {
				list = append(list, netip.AddrPortFrom(a, backendPort))
			}
		}
	}
	if len(list) == 0 {
		return nil, errors.New("no web pod is ready")
	}
	return list, nil
}

// route is a way to the web pods through a Service.
type route struct {
	from *netns.NS
	to   netip.AddrPort
}

// routes lists the ways in a family: the ClusterIP from pods and nodes, the NodePort of
// every living node from everywhere.
func (s *site) routes(f netns.Family) []route {
	svc, err := s.Client().CoreV1().Services(shop).Get(s.t.Context(), "web", metav1.GetOptions{})
	must(s.t, err)
	var list []route
	inside := slices.Clone(s.clients)
	for _, n := range s.Nodes[:len(s.clients)] {
		inside = append(inside, n.NS)
	}
	for _, ip := range svc.Spec.ClusterIPs {
		a := netip.MustParseAddr(ip)
		for _, ns := range inside {
			if a.Is6() == (f == netns.IPv6) {
				list = append(list, route{ns, netip.AddrPortFrom(a, servicePort)})
			}
		}
	}
	for _, n := range s.Nodes[:len(s.clients)] {
		for _, ns := range append(slices.Clone(inside), s.Network.Outside.NS) {
			list = append(list, route{ns, netip.AddrPortFrom(n.Addr(f), nodePort)})
		}
	}
	return list
}

// want waits until all ways lead to all ready web pods and nobody else, in exact round robin.
func (s *site) want(timeout time.Duration) {
	s.t.Helper()
	checked := 0
	for _, f := range netns.Families() {
		for _, r := range s.routes(f) {
			for _, p := range traffic.Protocols() {
				must(s.t, Poll(s.t.Context(), timeout, func(ctx context.Context) error {
					backends, err := s.backends(ctx, f)
					if err != nil {
						return err
					}
					return exact(ctx, r, p, backends)
				}))
				checked++
			}
		}
	}
	s.t.Logf("%d ways lead to all web pods in exact round robin", checked)
}

func exact(ctx context.Context, r route, p traffic.Protocol, backends []netip.AddrPort) error {
	n := 2 * len(backends)
	client := traffic.Client{NS: r.from}
	tally, err := traffic.Spread(ctx, n, func(ctx context.Context) traffic.Result { return client.Connect(ctx, p, r.to) })
	if err != nil {
		return err
	}
	if err := traffic.ExactRoundRobin(tally.Hits, backends, n); err != nil {
		return fmt.Errorf("from %s to %s %s: %w (last error: %w)", r.from.Name(), p, r.to, err, tally.LastErr)
	}
	return nil
}
