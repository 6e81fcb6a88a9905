// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/proxy"
	"github.com/nftproxy/nftproxy/e2e/traffic"
)

// What the clusters of BenchmarkProxies hold: many services, and a few that roll.
const (
	benchEndpoints = 10
	rollServices   = 100 // of rollEndpoints endpoints each
	rollEndpoints  = 20
	rollUpdates    = 20000 // in rollTime
	rollTime       = time.Minute
)

// services is how many there are, of benchEndpoints endpoints each: 10,000, or what the
// environment says in BENCH_SERVICES.
func services() int {
	if n, err := strconv.Atoi(os.Getenv("BENCH_SERVICES")); err == nil {
		return n
	}
	return 10000
}

// BenchmarkProxies compares nftproxy with kube-proxy in nftables mode on a real API
// server: memory, time from a change to its effect on packets, and what a rolling
// update costs. It takes some 10 minutes:
//
//	make build && cd e2e/controlplane && go test -run '^$' -bench Proxies -benchtime 1x -timeout 40m .
func BenchmarkProxies(b *testing.B) {
	s := newBenchSite(b)
	for _, p := range []struct {
		name, program string
		args, cleanup []string
	}{
		{"nftproxy", "../../bin/nftproxy", []string{"run"}, []string{"cleanup"}},
		{"kube-proxy", "", []string{"--proxy-mode", "nftables", "--conntrack-max-per-core", "0"}, []string{"--cleanup"}},
	} {
		b.Run(p.name, func(b *testing.B) {
			for b.Loop() {
				s.measure(b, p.program, p.args)
				_, err := proxy.Run(b.Context(), s.process(p.program, p.cleanup))
				mustB(b, err)
			}
		})
	}
}

// benchSite is a control plane that holds all services, and a node for the proxies.
type benchSite struct {
	*netns.Cluster
	cp     *ControlPlane
	probes []string // the slices of the service that is looked at, by its endpoint
}

// The service that is looked at is the last, with one endpoint of two.
const probeAddress = "10.96.200.1"

func newBenchSite(b *testing.B) *benchSite {
	b.Helper()
	c, err := netns.NewCluster(netns.Config{})
	mustB(b, err)
	b.Cleanup(func() { mustB(b, c.Close()) })
	cp, err := Start(b.Context(), Config{NetNS: c.Outside.Fd(), Address: c.Outside.V4, Dir: b.TempDir()})
	mustB(b, err)
	b.Cleanup(func() { mustB(b, cp.Stop()) })
	mustB(b, cp.CreateNode(b.Context(), NodeSpec{Name: "node", IPs: []netip.Addr{c.Node.V4, c.Node.V6}}))
	var addrs []netip.Addr
	for _, h := range c.RemotePods[:2] {
		addrs = append(addrs, h.V4)
	}
	server, err := traffic.Serve(c.Remote.NS, traffic.Endpoints(addrs, []uint16{backendPort}, traffic.TCP)...)
	mustB(b, err)
	b.Cleanup(func() { mustB(b, server.Close()) })
	mustB(b, cp.EnsureNamespace(b.Context(), "shop"))
	s := &benchSite{Cluster: c, cp: cp}
	s.load(b)
	return s
}

// load creates all objects.
func (s *benchSite) load(b *testing.B) {
	b.Helper()
	start := time.Now()
	mustB(b, s.create(b.Context(), "zz-probe", probeAddress, []string{s.RemotePods[0].V4.String()})) // before its address is taken
	g, ctx := errgroup.WithContext(b.Context())
	g.SetLimit(16)
	for i := range services() {
		g.Go(func() error { return s.create(ctx, fmt.Sprintf("web-%d", i), "", many(i, benchEndpoints)) })
	}
	for i := range rollServices {
		g.Go(func() error { return s.create(ctx, rollName(i), "", many(i, rollEndpoints)) })
	}
	mustB(b, g.Wait())
	b.Logf("loaded in %s", time.Since(start))
}

func rollName(i int) string { return fmt.Sprintf("roll-%d", i) }

func many(seed, n int) []string {
	var out []string
	for j := range n {
		out = append(out, netip.AddrFrom4([4]byte{10, 244, byte(100 + seed%100), byte(1 + (seed/100+j)%250)}).String())
	}
	return out
}

func (s *benchSite) create(ctx context.Context, name, ip string, endpoints []string) error {
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.ServiceSpec{ClusterIP: ip,
		Ports: []corev1.ServicePort{{Name: "http", Port: servicePort}}}}
	if _, err := s.cp.Client().CoreV1().Services("shop").Create(ctx, svc, metav1.CreateOptions{}); err != nil {
		return err
	}
	_, err := s.cp.Client().DiscoveryV1().EndpointSlices("shop").Create(ctx, slice(name, endpoints), metav1.CreateOptions{})
	return err
}

func slice(name string, endpoints []string) *discoveryv1.EndpointSlice {
	es := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: name, Labels: map[string]string{discoveryv1.LabelServiceName: name}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: ptr.To("http"), Port: ptr.To(int32(backendPort)), Protocol: ptr.To(corev1.ProtocolTCP)}},
	}
	for i, a := range endpoints {
		es.Endpoints = append(es.Endpoints, discoveryv1.Endpoint{Addresses: []string{a},
			Conditions: discoveryv1.EndpointConditions{Ready: ptr.To(true)}, NodeName: ptr.To(fmt.Sprintf("node-%d", i)),
			TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: "shop", Name: fmt.Sprintf("%s-%d", name, i)}})
	}
	return es
}

// update writes a slice.
func (s *benchSite) update(ctx context.Context, name string, endpoints []string) error {
	_, err := s.cp.Client().DiscoveryV1().EndpointSlices("shop").Update(ctx, slice(name, endpoints), metav1.UpdateOptions{})
	return err
}

// process says how to run a proxy; this program is kube-proxy.
func (s *benchSite) process(program string, args []string) proxy.Config {
	return proxy.Config{Program: program, Args: args, Env: []string{kubeProxyEnv + "=1"}, NS: s.Node.NS}
}

// measure runs one proxy and reports all figures.
func (s *benchSite) measure(b *testing.B, program string, args []string) {
	b.Helper()
	s.probe(b, 0)
	args = append(args, "--kubeconfig", s.cp.Kubeconfig(), "--hostname-override", "node", "--cluster-cidr", netns.ClusterCIDR4)
	start := time.Now()
	p, err := proxy.Start(s.process(program, args))
	mustB(b, err)
	defer func() {
		if b.Failed() {
			b.Logf("its log:\n%s", p.Log())
		}
		p.Kill()
	}()
	group := newMemoryGroup(b, p.Pid())
	s.waitFor(b, 0, 5*time.Minute)
	b.ReportMetric(float64(time.Since(start).Milliseconds()), "start-ms")
	time.Sleep(20 * time.Second) // not to synchronize: that is what idle means
	busy := cpuTime(b, p.Pid())
	time.Sleep(20 * time.Second)
	b.ReportMetric(float64(cpuTime(b, p.Pid())-busy)/float64(20*time.Second)*100, "idle-cpu%")
	b.ReportMetric(status(b, p.Pid(), "VmRSS"), "rss-MB")
	b.ReportMetric(status(b, p.Pid(), "VmHWM"), "peak-MB")
	b.ReportMetric(group.kernel(b)/float64(services()+rollServices), "kernel-B/service")
	var all []time.Duration
	for i := range 50 {
		all = append(all, s.change(b, i%2))
	}
	reportB(b, "change", all)
	s.roll(b, p.Pid())
}

// change moves the probe's service to another endpoint, and returns how long it took
// from the API call to connections going there.
func (s *benchSite) change(b *testing.B, i int) time.Duration {
	b.Helper()
	start := time.Now()
	mustB(b, s.update(b.Context(), "zz-probe", []string{s.RemotePods[1-i].V4.String()}))
	api := time.Since(start)
	s.waitFor(b, 1-i, 3*time.Minute)
	took := time.Since(start)
	if api > time.Second {
		b.Logf("a change took %s, of that the API server %s", took, api)
	}
	return took
}

func (s *benchSite) probe(b *testing.B, i int) {
	b.Helper()
	mustB(b, s.update(b.Context(), "zz-probe", []string{s.RemotePods[i].V4.String()}))
}

// waitFor connects until the answer comes from one of the two pods.
func (s *benchSite) waitFor(b *testing.B, i int, patience time.Duration) {
	b.Helper()
	pace := time.NewTicker(time.Millisecond) // more would fill the kernel's table of connections
	defer pace.Stop()
	want := netip.AddrPortFrom(s.RemotePods[i].V4, backendPort).String()
	var last error
	for start := time.Now(); time.Since(start) < patience; <-pace.C {
		backend, err := s.ask()
		if last = err; err == nil && backend == want {
			return
		}
	}
	b.Fatalf("connections did not go to %s in %s: %v", want, patience, last)
}

// ask connects to the probe's service and returns who answers. It closes by a reset:
// the ports of thousands of connections would stay in use otherwise.
func (s *benchSite) ask() (backend string, err error) {
	const patience = 200 * time.Millisecond
	var conn net.Conn
	err = s.Client.Do(func() (err error) {
		conn, err = (&net.Dialer{Timeout: patience}).Dial("tcp4", probeAddress+":80")
		return err
	})
	if err != nil {
		return "", err
	}
	defer conn.Close()
	_ = conn.(*net.TCPConn).SetLinger(0)
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := fmt.Fprintln(conn, "who"); err != nil {
		return "", err
	}
	var question string
	_, err = fmt.Fscan(conn, &question, &backend)
	return backend, err
}

// roll replaces endpoints of the rolling services, at an even pace, and reports the
// CPU time that the proxy takes for it and how far behind it is.
func (s *benchSite) roll(b *testing.B, pid int) {
	b.Helper()
	busy, start := cpuTime(b, pid), time.Now()
	g, ctx := errgroup.WithContext(b.Context())
	const writers = 16
	for w := range writers {
		g.Go(func() error {
			for i := w; i < rollUpdates; i += writers {
				time.Sleep(time.Until(start.Add(rollTime * time.Duration(i) / rollUpdates)))
				n := i % rollServices
				if err := s.update(ctx, rollName(n), many(n+i/rollServices*rollServices, rollEndpoints)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	var behind []time.Duration
	var once sync.Mutex
	once.Lock()
	go func() {
		defer once.Unlock()
		for i := 0; time.Since(start) < rollTime-time.Second; i++ {
			behind = append(behind, s.change(b, i%2))
		}
	}()
	mustB(b, g.Wait())
	b.ReportMetric(time.Since(start).Seconds(), "roll-s")
	once.Lock()
	b.ReportMetric((cpuTime(b, pid) - busy).Seconds(), "roll-cpu-s")
	reportB(b, "roll-change", behind)
}

func reportB(b *testing.B, what string, all []time.Duration) {
	slices.Sort(all)
	for name, at := range map[string]int{"p50": len(all) / 2, "p99": len(all) * 99 / 100, "max": len(all) - 1} {
		b.ReportMetric(float64(all[at].Microseconds())/1000, what+"-"+name+"-ms")
	}
}

// cpuTime is the processor time of a process so far.
func cpuTime(b *testing.B, pid int) time.Duration {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	mustB(b, err)
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+2:]))
	var ticks int
	for _, f := range fields[11:15] { // of itself and of children that have ended (nft), in 1/100 s
		n, err := strconv.Atoi(f)
		mustB(b, err)
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// status returns a size that /proc tells of a process, in MB.
func status(b *testing.B, pid int, what string) float64 {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	mustB(b, err)
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, what+":"); ok {
			kb, err := strconv.Atoi(strings.Fields(value)[0])
			mustB(b, err)
			return float64(kb) / 1024
		}
	}
	b.Fatalf("no %s", what)
	return 0
}

// memoryGroup is a control group (version 1) of one process.
type memoryGroup string

func newMemoryGroup(b *testing.B, pid int) memoryGroup {
	b.Helper()
	g := memoryGroup(fmt.Sprintf("/sys/fs/cgroup/memory/nftproxy-bench-%d", pid))
	if err := os.Mkdir(string(g), 0o755); err != nil {
		b.Logf("kernel memory is not measured: %v", err)
		return ""
	}
	b.Cleanup(func() { _ = os.Remove(string(g)) })
	mustB(b, os.WriteFile(string(g)+"/cgroup.procs", []byte(strconv.Itoa(pid)), 0))
	return g
}

// kernel returns the bytes of kernel memory that are charged.
func (g memoryGroup) kernel(b *testing.B) float64 {
	b.Helper()
	if g == "" {
		return 0
	}
	text, err := os.ReadFile(string(g) + "/memory.kmem.usage_in_bytes")
	mustB(b, err)
	n, err := strconv.ParseFloat(strings.TrimSpace(string(text)), 64)
	mustB(b, err)
	return n
}

func mustB(b *testing.B, err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}
