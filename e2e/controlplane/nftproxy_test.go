// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/netns/netnstest"
	"github.com/nftproxy/nftproxy/e2e/proxy"
	"github.com/nftproxy/nftproxy/e2e/traffic"
)

// runEnv makes the test binary act as nftproxy.
const runEnv = "NFTPROXY_E2E_RUN"

// backendPort is where the backends answer; their Services' port is servicePort.
const (
	backendPort = 8080
	servicePort = 80
)

// site is a cluster of namespaces with a control plane outside of it and nftproxy on
// its node.
type site struct {
	*netns.Cluster
	t    *testing.T
	cp   *ControlPlane
	args []string
}

// newSite starts the control plane and tells it of the node and its pods' network.
func newSite(t *testing.T) *site {
	c := netnstest.NewCluster(t, netns.Config{})
	cp := startForTest(t, Config{NetNS: c.Outside.Fd(), Address: c.Outside.V4})
	s := &site{Cluster: c, t: t, cp: cp, args: []string{"run", "--kubeconfig", cp.Kubeconfig(), "--hostname-override", "node",
		"--cluster-cidr", netns.ClusterCIDR4 + "," + netns.ClusterCIDR6}}
	for name, h := range map[string]netns.Host{"node": c.Node, "remote": c.Remote} {
		must(t, cp.CreateNode(t.Context(), NodeSpec{Name: name, IPs: []netip.Addr{h.V4, h.V6}}))
	}
	all := traffic.Protocols()
	for _, hosts := range [][]netns.Host{c.Local[:1], c.Local[1:2], c.RemotePods} {
		var addrs []netip.Addr
		for _, h := range hosts {
			addrs = append(addrs, h.V4, h.V6)
		}
		server, err := traffic.Serve(hosts[0].NS, traffic.Endpoints(addrs, []uint16{backendPort}, all[:]...)...)
		must(t, err)
		t.Cleanup(func() { must(t, server.Close()) })
	}
	return s
}

// start starts nftproxy on the node.
func (s *site) start() *proxy.Process {
	s.t.Helper()
	p, err := proxy.Start(proxy.Config{Args: s.args, Env: []string{runEnv + "=1"}, NS: s.Node.NS})
	must(s.t, err)
	s.t.Cleanup(p.Kill)
	return p
}

// run runs another command of nftproxy on the node.
func (s *site) run(args ...string) string {
	s.t.Helper()
	out, err := proxy.Run(s.t.Context(), proxy.Config{Args: args, Env: []string{runEnv + "=1"}, NS: s.Node.NS})
	if err != nil {
		s.t.Fatalf("nftproxy %s: %v\n%s", args, err, out)
	}
	return out
}

// service creates a Service with a port in each protocol.
func (s *site) service(name string, change func(*corev1.Service)) *corev1.Service {
	s.t.Helper()
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.ServiceSpec{
		Selector:       map[string]string{AppLabel: name},
		IPFamilyPolicy: new(corev1.IPFamilyPolicyRequireDualStack),
	}}
	for _, p := range traffic.Protocols() {
		svc.Spec.Ports = append(svc.Spec.Ports, corev1.ServicePort{Name: strings.ToLower(p.String()),
			Protocol: corev1.Protocol(p.String()), Port: servicePort, TargetPort: intstr.FromInt32(backendPort)})
	}
	if change != nil {
		change(svc)
	}
	svc, err := s.cp.Client().CoreV1().Services("shop").Create(s.t.Context(), svc, metav1.CreateOptions{})
	must(s.t, err)
	return svc
}

// pods creates pods for the hosts.
func (s *site) pods(app string, hosts ...netns.Host) {
	s.t.Helper()
	var list []PodSpec
	for _, h := range hosts {
		node := "node"
		if h.Name() == "remote" {
			node = "remote"
		}
		list = append(list, PodSpec{Name: podName(app, h), Node: node, IPs: []netip.Addr{h.V4, h.V6}})
	}
	must(s.t, s.cp.CreateBackends(s.t.Context(), "shop", app, list))
}

func podName(app string, h netns.Host) string {
	return app + "-" + strings.ReplaceAll(h.V4.String(), ".", "-")
}

// want waits until connections to the service are spread over the hosts, exactly, or
// refused where there are none: in every protocol over both families, from a pod, from
// the node and from outside.
func (s *site) want(svc *corev1.Service, hosts ...netns.Host) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 20*time.Second)
	defer cancel()
	for {
		err := s.check(ctx, svc, hosts)
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			s.t.Fatalf("service %s: %v", svc.Name, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (s *site) check(ctx context.Context, svc *corev1.Service, hosts []netns.Host) error {
	for _, ip := range svc.Spec.ClusterIPs {
		to := netip.AddrPortFrom(netip.MustParseAddr(ip), servicePort)
		f := netns.IPv4
		if to.Addr().Is6() {
			f = netns.IPv6
		}
		var backends []netip.AddrPort
		for _, h := range hosts {
			backends = append(backends, netip.AddrPortFrom(h.Addr(f), backendPort))
		}
		for _, p := range traffic.Protocols() {
			for _, from := range []netns.Host{s.Client, s.Node, s.Outside} {
				if err := checkPort(ctx, from, p, to, backends); err != nil {
					return fmt.Errorf("from %s to %s %s: %w", from.Name(), p, to, err)
				}
			}
		}
	}
	return nil
}

func checkPort(ctx context.Context, from netns.Host, p traffic.Protocol, to netip.AddrPort, backends []netip.AddrPort) error {
	client := traffic.Client{NS: from.NS}
	n := max(2*len(backends), 1)
	tally, err := traffic.Spread(ctx, n, func(ctx context.Context) traffic.Result { return client.Connect(ctx, p, to) })
	if err != nil {
		return err
	}
	if len(backends) == 0 {
		if tally.Refused != n {
			return fmt.Errorf("%d of %d connections were refused: %w", tally.Refused, n, tally.LastErr)
		}
		return nil
	}
	if err := traffic.ExactRoundRobin(tally.Hits, backends, n); err != nil {
		return fmt.Errorf("%w (last error: %w)", err, tally.LastErr)
	}
	return nil
}

// TestNftproxy follows Services and Pods of a real API server with packets.
func TestNftproxy(t *testing.T) {
	s := newSite(t)
	a, b, c := s.Local[0], s.Local[1], s.RemotePods[0]
	must(t, s.cp.EnsureNamespace(t.Context(), "shop"))
	web := s.service("web", nil)
	s.pods("web", a, c)
	p := s.start()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	must(t, p.WaitSynced(ctx))
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the log of nftproxy:\n%s", p.Log())
		}
	})
	for _, step := range []struct {
		name   string
		change func()
		want   []netns.Host
	}{
		{"at its start", func() {}, []netns.Host{a, c}},
		{"a pod more", func() { s.pods("web", b) }, []netns.Host{a, b, c}},
		{"one not ready", func() { must(t, s.cp.SetReady(t.Context(), "shop", podName("web", a), false)) }, []netns.Host{b, c}},
		{"one terminating", func() { must(t, s.cp.TerminateBackend(t.Context(), "shop", podName("web", b))) }, []netns.Host{c}},
		{"the last ready one terminating", func() { must(t, s.cp.TerminateBackend(t.Context(), "shop", podName("web", c))) }, []netns.Host{b, c}},
		{"ready again", func() { must(t, s.cp.SetReady(t.Context(), "shop", podName("web", a), true)) }, []netns.Host{a}},
		{"all gone", func() { must(t, s.cp.DeleteBackends(t.Context(), "shop", "web")) }, nil},
		{"new pods", func() { s.pods("web", a, b) }, []netns.Host{a, b}},
	} {
		t.Log(step.name)
		step.change()
		s.want(web, step.want...)
	}

	t.Log("another Service has its address")
	must(t, s.cp.Client().CoreV1().Services("shop").Delete(t.Context(), "web", metav1.DeleteOptions{}))
	again := s.service("shopfront", func(svc *corev1.Service) {
		svc.Spec.ClusterIPs = web.Spec.ClusterIPs
		svc.Spec.ClusterIP = web.Spec.ClusterIP
	})
	s.want(again)
	s.pods("shopfront", c)
	s.want(again, c)

	t.Log("what a fresh start would program")
	if out := s.run(append([]string{"diff"}, s.args[1:]...)...); !strings.HasPrefix(out, "equal: ") {
		t.Errorf("the kernel does not hold what the cluster asks for:\n%s", out)
	}

	t.Log("what becomes of connections, in words")
	pod := "shop/" + podName("shopfront", c)
	said := s.run(append([]string{"explain", "shop/shopfront:tcp", "--from", pod, "--from", "remote"}, s.args[1:]...)...)
	for _, want := range []string{
		"pod " + pod + " on node remote", fmt.Sprintf("from %s: goes to %s:%d", pod, c.V4, backendPort),
		fmt.Sprintf("from remote: goes to [%s]:%d", c.V6, backendPort), "The kernel holds just that.",
	} {
		if !strings.Contains(said, want) {
			t.Errorf("explain does not say %q:\n%s", want, said)
		}
	}

	t.Log("without nftproxy")
	must(t, p.Stop())
	s.want(again, c)
	s.pods("shopfront", a)
	t.Log("a restart")
	p = s.start()
	must(t, p.WaitSynced(ctx))
	s.want(again, a, c)
}

// TestNothingIsWrittenWithoutTheLists: an API server that does not answer leaves the
// tables as they are.
func TestNothingIsWrittenWithoutTheLists(t *testing.T) {
	c := netnstest.NewCluster(t, netns.Config{})
	s := &site{Cluster: c, t: t}
	manifests := t.TempDir()
	must(t, os.WriteFile(filepath.Join(manifests, "web.yaml"), []byte(`{apiVersion: v1, kind: Service, metadata: {namespace: a, name: web},
  spec: {clusterIP: 10.96.0.9, ports: [{port: 80}]}}`), 0o644))
	s.args = []string{"run", "--manifests", manifests, "--hostname-override", "node"}
	p := s.start()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	must(t, p.WaitSynced(ctx))
	must(t, p.Stop())
	before := s.run("dump", "--kernel")
	if !strings.Contains(before, "10.96.0.9") {
		t.Fatalf("nothing was programmed:\n%s", before)
	}
	s.args = []string{"run", "--master", "http://127.0.0.1:1", "--hostname-override", "node"}
	p = s.start()
	must(t, p.WaitLog(ctx, "connection refused"))
	// Whose tables they are is no rule: the process takes them over when it starts.
	mine := strings.NewReplacer(" # progname exe\n", "\n", "\tflags owner,persist\n", "\tflags persist\n")
	if after := mine.Replace(s.run("dump", "--kernel")); after != before {
		t.Errorf("the tables have changed:\n%s", after)
	}
	must(t, p.Stop())
	if after := s.run("dump", "--kernel"); after != before {
		t.Errorf("stopping has changed the tables:\n%s", after)
	}
}
