// SPDX-License-Identifier: Apache-2.0

//go:build linux

package cluster

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/netns/netnstest"
)

const (
	repository  = "../.."
	backendPort = 8080
	servicePort = 80
	nodePort    = 30080
	shop        = "default" // the namespace of testdata/shop.yaml
	stepTimeout = 2 * time.Minute
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
	clients []*netns.NS // a pod's namespace on each living node
}

// living lists the nodes that have not been taken away.
func (s *site) living() []*Node { return s.Nodes[:len(s.clients)] }

// fastControllers notice within 12 s that a node is dead.
var fastControllers = []string{"--node-monitor-period=1s", "--node-monitor-grace-period=12s"}

// newSite starts a cluster of some nodes. It ends with the test, and must leave nothing.
func newSite(t *testing.T, nodes int, controllerArgs ...string) *site {
	t.Helper()
	return newSiteWith(t, Config{Nodes: nodes, ControllerArgs: controllerArgs})
}

// newSiteWith does so with more said of the cluster. Programs and images are filled in.
func newSiteWith(t *testing.T, config Config) *site {
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
	config.BinDir, config.Logf, config.Images = bin, t.Logf, images
	c, err := Start(t.Context(), config)
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

// openShop applies testdata/shop.yaml and waits for its pods.
func (s *site) openShop() {
	s.t.Helper()
	s.openShopWith(nil)
}

// openShopWith does so with some texts of it replaced, each wherever it is.
func (s *site) openShopWith(replacements map[string]string) {
	s.t.Helper()
	data, err := os.ReadFile("testdata/shop.yaml")
	must(s.t, err)
	text := string(data)
	for old, replacement := range replacements {
		if !strings.Contains(text, old) {
			s.t.Fatalf("shop.yaml has no %q", old)
		}
		text = strings.ReplaceAll(text, old, replacement)
	}
	must(s.t, s.Apply(s.t.Context(), text, false))
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
		pods, err := s.pods(ctx, "app=client")
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

// pods lists the pods with a label that are not being deleted.
func (s *site) pods(ctx context.Context, label string) ([]corev1.Pod, error) {
	list, err := s.Client().CoreV1().Pods(shop).List(ctx, metav1.ListOptions{LabelSelector: label})
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
	must(s.t, Poll(s.t.Context(), stepTimeout, func(ctx context.Context) error {
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

// clusterIP returns where a Service is served in the cluster.
func (s *site) clusterIP(service string) netip.AddrPort {
	s.t.Helper()
	found, err := s.Client().CoreV1().Services(shop).Get(s.t.Context(), service, metav1.GetOptions{})
	must(s.t, err)
	return netip.AddrPortFrom(netip.MustParseAddr(found.Spec.ClusterIP), servicePort)
}

// nft has nft run a script in a node's namespace, and returns what it prints.
func (s *site) nft(n *Node, script string) string {
	s.t.Helper()
	cmd := exec.CommandContext(s.t.Context(), netnstest.Tool(s.t, "nft"), "-f", "-")
	cmd.Stdin = strings.NewReader(script)
	var out []byte
	if err := n.Do(func() (err error) { out, err = cmd.CombinedOutput(); return err }); err != nil {
		s.t.Fatalf("nft on %s: %v\n%s", n.Name(), err, out)
	}
	return string(out)
}
