// SPDX-License-Identifier: Apache-2.0

//go:build linux

package packets

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	corev1 "k8s.io/api/core/v1"

	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/netns/netnstest"
	"github.com/nftproxy/nftproxy/e2e/proxy"
	"github.com/nftproxy/nftproxy/e2e/traffic"
)

// kubeProxyEnv names the real kube-proxy. `make kernels KERNELS_FLAGS='-suites ipvs'` sets it in a guest whose kernel has IPVS.
const kubeProxyEnv = "NFTPROXY_TEST_KUBE_PROXY"

// TestMigrationFromIPVS goes from the real kube-proxy in IPVS mode to nftproxy on a node with constant traffic, as docs/from-ipvs.md
// says it: no new connection fails, and none that is open ends before what IPVS has of it is removed. Then those end that go through
// IPVS, and those whose own address is a Service's, which goes with kube-ipvs0: the node dials Services from there.
func TestMigrationFromIPVS(t *testing.T) {
	kubeProxy := needIPVS(t)
	w := newWorld(t, config{args: []string{"--node-ip", "172.18.0.2,fd00:172:18::2"}})
	w.stop(t)
	w.run(t, "cleanup")
	hosts := []netns.Host{w.Local[0], w.RemotePods[0], w.RemotePods[1]}
	s := w.full("web", func(s *corev1.Service) {
		s.Spec.IPFamilies, s.Spec.ExternalIPs = []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}, nil
		s.Spec.Ports = slices.DeleteFunc(s.Spec.Ports, func(p corev1.ServicePort) bool { return p.Protocol == corev1.ProtocolSCTP })
	}).to(ready(hosts...))
	at := netip.AddrPortFrom(w.Outside.V4, apiPort).String()
	serveAPI(t, w.Outside, at, s)
	file := filepath.Join(t.TempDir(), "config.conf")
	if err := os.WriteFile(file, []byte(ipvsConfig), 0o600); err != nil {
		t.Fatal(err)
	}
	start := func(c proxy.Config) *proxy.Process {
		t.Helper()
		c.NS = w.Node.NS
		c.Args = append(c.Args, "--config", file, "--master", "http://"+at, "--hostname-override", "node")
		p, err := proxy.Start(c)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}

	old := start(proxy.Config{Program: kubeProxy})
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the log of kube-proxy:\n%s", old.Log())
		}
		old.Kill()
	})
	w.waitServers(t, s, hosts)
	l := startMigrationLoad(t, w, s)
	l.goOn(t, "kube-proxy serves")
	first, late := l.open(t, w, s), l.open(t, w, s)

	w.nftproxy = start(proxy.Config{Args: []string{"run"}, Env: []string{runEnv + "=1"}})
	w.wantLog(t, "Programmed all services")
	w.wantLog(t, "The scheduler of the IPVS mode is taken over")
	l.goOn(t, "both run")
	second := l.open(t, w, s)
	old.Kill() // it ends so by SIGTERM, too
	l.goOn(t, "kube-proxy has ended")
	t.Logf("IPVS has\n%s%s", w.ipvs(t, "ip_vs"), w.ipvs(t, "ip_vs_conn"))
	first.end()
	first.wantNoneLost(t, w, everywhere)

	t.Logf("cleanup:\n%s", w.run(t, "cleanup", "--kube-proxy"))
	l.goOn(t, "nftproxy serves")
	l.goOn(t, "nftproxy serves")
	late.end()
	second.end()
	t.Logf("connections through IPVS:\n%s", late)
	t.Logf("connections through nftproxy:\n%s", second)
	second.wantNoneLost(t, w, elsewhere)
	l.end(t)
	w.wantNothingOfIPVS(t)
}

// ipvsConfig is a configuration for both. What it says of connection tracking is the machine's own otherwise.
const ipvsConfig = `apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: ipvs
ipvs: {scheduler: rr, strictARP: true}
clusterCIDR: ` + netns.ClusterCIDR4 + "," + netns.ClusterCIDR6 + `
clientConnection: {contentType: application/json}
conntrack: {maxPerCore: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
`

// needIPVS returns the path of kube-proxy, or skips the test where there is none, or no IPVS in the kernel.
func needIPVS(t *testing.T) string {
	t.Helper()
	path := os.Getenv(kubeProxyEnv)
	if path == "" {
		t.Skipf("%s names no kube-proxy", kubeProxyEnv)
	}
	for _, tool := range []string{"ipset", "iptables-restore"} {
		netnstest.Tool(t, tool)
	}
	const list = "/proc/net/ip_vs"
	if _, err := os.Stat(list); err != nil {
		out, err := exec.Command("modprobe", "ip_vs").CombinedOutput()
		if _, missing := os.Stat(list); missing != nil {
			t.Skipf("this kernel has no IPVS: modprobe ip_vs: %v: %s", err, out)
		}
	}
	return path
}

// ipvs returns a file of the node's IPVS.
func (w *world) ipvs(t *testing.T, name string) string {
	t.Helper()
	var text []byte
	if err := w.Node.Do(func() (err error) { text, err = os.ReadFile("/proc/thread-self/net/" + name); return err }); err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// waitServers waits until IPVS has the endpoints in both families, and all kinds of addresses answer from everywhere.
func (w *world) waitServers(t *testing.T, s *svc, hosts []netns.Host) {
	t.Helper()
	eventually(t, "kube-proxy's virtual servers", func() error {
		list := w.ipvs(t, "ip_vs")
		for _, h := range hosts {
			for _, want := range []string{fmt.Sprintf("-> %X:", h.V4.AsSlice()), "-> [" + h.V6.StringExpanded() + "]:"} {
				if !strings.Contains(list, want) {
					return fmt.Errorf("IPVS has no %q:\n%s", want, list)
				}
			}
		}
		return nil
	})
	for _, to := range migrationStreams(w, s) {
		client := to.client
		client.Timeout = patience / 20
		eventually(t, to.name, func() error {
			if r := client.Connect(t.Context(), to.p, to.to); r.Outcome != traffic.Answered {
				return fmt.Errorf("%s", r)
			}
			return nil
		})
	}
}

// wantNothingOfIPVS checks that nothing is left of kube-proxy.
func (w *world) wantNothingOfIPVS(t *testing.T) {
	t.Helper()
	if list := w.ipvs(t, "ip_vs"); strings.Count(list, "\n") > 3 {
		t.Errorf("IPVS has still\n%s", list)
	}
	err := w.Node.Do(func() error {
		if _, err := netlink.LinkByName("kube-ipvs0"); err == nil {
			t.Error("kube-ipvs0 is still there")
		}
		sets, err := exec.Command("ipset", "list", "-n").CombinedOutput()
		if err != nil || len(sets) > 0 {
			t.Errorf("ipsets: %v, %s", err, sets)
		}
		for _, program := range []string{"iptables-save", "ip6tables-save"} {
			out, err := exec.Command(program).CombinedOutput()
			if err != nil || strings.Contains(strings.ReplaceAll(string(out), "KUBE-FIREWALL", ""), "KUBE-") {
				t.Errorf("%s: %v\n%s", program, err, out)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// migrationLoad is new connections to all kinds of addresses of a service, until it ends.
type migrationLoad struct {
	streams []*stream
	stop    context.CancelFunc
	running sync.WaitGroup
}

// stream is new connections to one address, one after the other.
type stream struct {
	name   string
	client traffic.Client
	p      traffic.Protocol
	to     netip.AddrPort
	made   atomic.Int64

	failed   int64
	last     traffic.Result // of those that failed
	slowest  time.Duration
	backends map[netip.AddrPort]int
}

// migrationPace is the time between two connections, or requests, of a stream.
func migrationPace() time.Duration { return patience / 1000 }

// migrationStreams are where connections come from and go to.
func migrationStreams(w *world, s *svc) (list []*stream) {
	for _, f := range netns.Families() {
		for _, p := range []traffic.Protocol{traffic.TCP, traffic.UDP} {
			for _, way := range []struct {
				from netns.Host
				fe   frontend
			}{{w.Client, clusterIP}, {w.Node, clusterIP}, {w.Outside, nodePort}, {w.Outside, loadBalancer}} {
				to := w.address(s, way.fe, p, f)
				list = append(list, &stream{name: fmt.Sprintf("from %s to %s %s", way.from.Name(), p, to),
					client: traffic.Client{NS: way.from.NS}, p: p, to: to, backends: map[netip.AddrPort]int{}})
			}
		}
	}
	return list
}

func startMigrationLoad(t *testing.T, w *world, s *svc) *migrationLoad {
	t.Helper()
	l := &migrationLoad{streams: migrationStreams(w, s)}
	ctx, stop := context.WithCancel(t.Context())
	l.stop = stop
	t.Cleanup(func() { stop(); l.running.Wait() })
	for _, s := range l.streams {
		l.running.Go(func() { s.goOn(ctx) })
	}
	return l
}

func (s *stream) goOn(ctx context.Context) {
	pace := time.NewTicker(migrationPace())
	defer pace.Stop()
	for {
		r := s.client.Connect(context.WithoutCancel(ctx), s.p, s.to)
		s.slowest = max(s.slowest, r.Elapsed)
		if r.Outcome != traffic.Answered {
			s.failed++
			s.last = r
		} else {
			s.backends[r.Backend]++
		}
		s.made.Add(1)
		select {
		case <-ctx.Done():
			return
		case <-pace.C:
		}
	}
}

// goOn waits until there are some more connections from and to everywhere.
func (l *migrationLoad) goOn(t *testing.T, phase string) {
	t.Helper()
	t.Log(phase)
	const more = 12
	var goals []int64
	for _, s := range l.streams {
		goals = append(goals, s.made.Load()+more)
	}
	eventually(t, phase+": more connections", func() error {
		for i, s := range l.streams {
			if n := s.made.Load(); n < goals[i] {
				return fmt.Errorf("%s: %d of %d", s.name, n, goals[i])
			}
		}
		return nil
	})
}

// end ends the load: every connection was answered, from everywhere by each backend.
func (l *migrationLoad) end(t *testing.T) {
	t.Helper()
	l.stop()
	l.running.Wait()
	for _, s := range l.streams {
		t.Logf("%s: %d new connections, %d failed, the slowest took %v", s.name, s.made.Load(), s.failed, s.slowest)
		if s.failed > 0 {
			t.Errorf("%s: %d of %d connections failed: %s", s.name, s.failed, s.made.Load(), s.last)
		}
		if len(s.backends) != 3 {
			t.Errorf("%s: answers from %v, want three backends", s.name, s.backends)
		}
	}
}

// kept are connections that stay open.
type kept struct {
	list    []*traffic.Regular
	streams []*stream // where they come from and go to
	stop    context.CancelFunc
	running sync.WaitGroup
}

// open opens connections from and to everywhere, and goes on asking.
func (*migrationLoad) open(t *testing.T, w *world, s *svc) *kept {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	k := &kept{stop: stop}
	for _, to := range migrationStreams(w, s) {
		client := to.client
		client.Timeout = patience / 20
		r, err := client.OpenRegular(t.Context(), to.p, to.to)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = r.Close() })
		k.list, k.streams = append(k.list, r), append(k.streams, to)
		k.running.Go(func() { r.GoOn(context.WithoutCancel(ctx), ctx, 3*migrationPace()) })
	}
	t.Cleanup(k.end)
	return k
}

// end ends the requests; the connections stay open.
func (k *kept) end() {
	k.stop()
	k.running.Wait()
}

func (k *kept) String() string {
	var b strings.Builder
	for i, r := range k.list {
		fmt.Fprintf(&b, "%s: %d requests, %d sent again, the slowest took %v, lost: %v\n", k.streams[i].name, r.Asked, len(r.Repeats), r.Slowest, r.Lost)
	}
	return b.String()
}

// everywhere and elsewhere say which connections are meant: all, or those whose own address is not a Service's.
func everywhere(*world, *stream) bool    { return true }
func elsewhere(w *world, s *stream) bool { return s.client.NS != w.Node.NS }

// wantNoneLost checks that all that are meant were answered, by one backend each.
func (k *kept) wantNoneLost(t *testing.T, w *world, meant func(*world, *stream) bool) {
	t.Helper()
	for i, r := range k.list {
		if (r.Lost != nil || len(r.Repeats) > 0) && meant(w, k.streams[i]) {
			t.Errorf("an open connection %s: after %d requests, %d sent again: %v", k.streams[i].name, r.Asked, len(r.Repeats), r.Lost)
		}
	}
}
