// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/nftproxy/nftproxy/e2e/faults"
	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/proxy"
	"github.com/nftproxy/nftproxy/e2e/traffic"
)

const (
	apiRow = "API server"
	// mostWrong is how long the kernel may be wrong after the API server is back.
	mostWrong = 30 * time.Second
	// mostRequests a second there may be while a fault lasts, of all kinds of objects together, but for a burst.
	mostRequests, burstRequests = 4, 40
)

// apiSite is a site whose nftproxy reaches the API server through proxies that inject faults. No fault touches the Service web;
// other has two pods, one of which is ready and not ready in turn.
type apiSite struct {
	*site
	nftproxy   *proxy.Process
	web, other *corev1.Service
	ready      bool
}

func newAPISite(t *testing.T, args func(s *site) []string) *apiSite {
	t.Helper()
	s := &apiSite{site: newSite(t), ready: true}
	must(t, s.cp.EnsureNamespace(t.Context(), "shop"))
	s.web, s.other = s.service("web", nodePort(31080)), s.service("other", nodePort(31090))
	s.pods("web", s.Local[0], s.RemotePods[0])
	s.pods("other", s.Local[1], s.RemotePods[1])
	s.args = append([]string{"run", "--hostname-override", "node", "--cluster-cidr", netns.ClusterCIDR4 + "," + netns.ClusterCIDR6}, args(s.site)...)
	t.Setenv("GOMEMLIMIT", "90MiB") // as in a container of 128 MB
	s.nftproxy = s.start()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the log of nftproxy:\n%s", s.nftproxy.Log())
		}
	})
	s.synced(s.nftproxy)
	s.want(s.web, s.Local[0], s.RemotePods[0])
	s.want(s.other, s.Local[1], s.RemotePods[1])
	return s
}

func nodePort(first int32) func(*corev1.Service) {
	return func(svc *corev1.Service) {
		svc.Spec.Type = corev1.ServiceTypeNodePort
		for i := range svc.Spec.Ports {
			svc.Spec.Ports[i].NodePort = first + int32(i)
		}
	}
}

// load begins traffic to the Service that nobody touches.
func (s *apiSite) load() *faults.Load {
	s.t.Helper()
	var targets []faults.Target
	for _, ip := range s.web.Spec.ClusterIPs {
		a := netip.MustParseAddr(ip)
		f := netns.IPv4
		if a.Is6() {
			f = netns.IPv6
		}
		for i, p := range traffic.Protocols() {
			to := netip.AddrPortFrom(a, servicePort)
			targets = append(targets, faults.Target{From: s.Client, Protocol: p, To: to}, faults.Target{From: s.Node, Protocol: p, To: to},
				faults.Target{From: s.Outside, Protocol: p, To: netip.AddrPortFrom(s.Node.Addr(f), uint16(31080+i))})
		}
	}
	for _, from := range []netns.Host{s.Client, s.Node} {
		targets = append(targets, faults.Target{From: from, Protocol: traffic.TCP, To: netip.AddrPortFrom(s.RemotePods[0].V4, backendPort), Direct: true})
	}
	l, err := faults.Start(s.t.Context(), targets...)
	must(s.t, err)
	s.t.Cleanup(func() { l.End() })
	return l
}

// change changes the Service other, in the API server.
func (s *apiSite) change() {
	s.t.Helper()
	s.ready = !s.ready
	must(s.t, s.cp.SetReady(s.t.Context(), "shop", podName("other", s.Local[1]), s.ready))
}

// right waits until the last change is in force, and returns how long that took since the API server had it: the controllers that
// make EndpointSlices have to find the API server again, too.
func (s *apiSite) right() time.Duration {
	s.t.Helper()
	s.sliced()
	hosts := []netns.Host{s.RemotePods[1]}
	if s.ready {
		hosts = append(hosts, s.Local[1])
	}
	return s.served(s.other, hosts...)
}

// sliced waits until the EndpointSlices say what the last change was.
func (s *apiSite) sliced() {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 2*time.Minute)
	defer cancel()
	want := map[bool]int{true: 2, false: 1}[s.ready]
	for {
		list, err := s.cp.Client().DiscoveryV1().EndpointSlices("shop").List(ctx, metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=other"})
		right := err == nil
		if err == nil {
			for _, es := range list.Items {
				ready := 0
				for _, e := range es.Endpoints {
					if e.Conditions.Ready != nil && *e.Conditions.Ready {
						ready++
					}
				}
				right = right && ready == want
			}
		}
		if right {
			return
		}
		if ctx.Err() != nil {
			s.t.Fatalf("the API server's EndpointSlices do not become right: %v", err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// served waits until a Service has endpoints, and returns how long that took.
func (s *apiSite) served(svc *corev1.Service, hosts ...netns.Host) time.Duration {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), mostWrong+patience)
	defer cancel()
	for begin := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		asked := time.Since(begin)
		err := s.check(ctx, svc, hosts)
		if err == nil {
			return asked
		}
		if ctx.Err() != nil {
			s.t.Fatalf("service %s: %v", svc.Name, err)
		}
	}
}

// resources are what a process has that must not grow.
type resources struct{ goroutines, files, memory int }

func (r resources) String() string {
	return fmt.Sprintf("%d goroutines, %d descriptors, %d MB", r.goroutines, r.files, r.memory>>20)
}

var (
	goroutinesLine = regexp.MustCompile(`(?m)^go_goroutines (\S+)$`)
	residentLine   = regexp.MustCompile(`(?m)^VmRSS:\s+(\d+) kB$`)
)

func (s *apiSite) resources() (r resources) {
	s.t.Helper()
	pid := s.nftproxy.Pid()
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	must(s.t, err)
	r.files = len(files)
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	must(s.t, err)
	if m := residentLine.FindSubmatch(status); m != nil {
		n, _ := strconv.Atoi(string(m[1]))
		r.memory = n << 10
	}
	if m := goroutinesLine.FindStringSubmatch(s.page(s.t, "127.0.0.1:10249", "/metrics")); m != nil {
		n, _ := strconv.ParseFloat(m[1], 64)
		r.goroutines = int(n)
	}
	return r
}

// flat waits until there is no more of anything than before, but for what comes and goes: the Go runtime gives memory back when
// it has time.
func (s *apiSite) flat(fault string, before resources) string {
	s.t.Helper()
	for begin := time.Now(); ; time.Sleep(100 * time.Millisecond) {
		after := s.resources()
		if after.goroutines <= before.goroutines+20 && after.files <= before.files+10 && after.memory <= before.memory+64<<20 {
			return after.String()
		}
		if time.Since(begin) > stepTimeout {
			s.t.Errorf("%s: nftproxy has %s, before %s", fault, after, before)
			return after.String()
		}
	}
}

// TestAPIFaults has an API server, or the way to it, do what it should not, one fault after the other.
func TestAPIFaults(t *testing.T) {
	const port = 7443
	var between *faults.Proxy
	s := newAPISite(t, func(s *site) []string {
		at := netip.AddrPortFrom(s.Outside.V4, port)
		transport, err := rest.TransportFor(s.cp.RESTConfig())
		must(t, err)
		between, err = faults.NewProxy(s.Outside.NS, at, s.cp.RESTConfig().Host, transport)
		must(t, err)
		t.Cleanup(between.Close)
		return []string{"--master", "http://" + at.String()}
	})
	long := faults.Amount(time.Second, 3*time.Second, 8*time.Second)
	few := []string{"gone", "401", "410", "endless", "truncated", "{}", "bookmarks only", "reordered events"}
	for _, f := range faults.APIFaults() {
		if !slices.Contains(few, f.Name) && faults.Amount(true, true, false) {
			continue
		}
		if faults.Amount(true, false, false) && f.Name != "410" && f.Name != "gone" {
			continue
		}
		s.inject(between, &f, long)
	}
	s.wantDiffEqual()
}

// inject injects a fault, again if the machine was too busy to tell whether what went wrong was nftproxy's fault.
func (s *apiSite) inject(between *faults.Proxy, f *faults.APIFault, long time.Duration) {
	s.t.Helper()
	const tries = 3
	for try := 1; ; try++ {
		r, wrong := s.injectOnce(between, f, long)
		if c := &r.Counts; try < tries && errors.Join(wrong, c.Err()) != nil && c.Starved() {
			s.t.Logf("%s: again, as of %d connections straight to a pod %d stalled and %d failed: %v", f.Name, c.Direct, c.DirectStalled, c.DirectFailed, errors.Join(wrong, c.Err()))
			continue
		}
		if wrong != nil {
			s.t.Errorf("%s: %v", f.Name, wrong)
		}
		faults.Record(s.t, r)
		return
	}
}

// injectOnce injects a fault for some time, and at least until nftproxy has noticed. wrong is what is so besides connections.
func (s *apiSite) injectOnce(between *faults.Proxy, f *faults.APIFault, long time.Duration) (r faults.Result, wrong error) {
	s.t.Helper()
	before := s.resources()
	l := s.load()
	between.Requests()
	must(s.t, between.Set(f))
	begin, was, n := time.Now(), s.ready, 0
	for time.Since(begin) < long || n == 0 && !f.Down && time.Since(begin) < mostWrong {
		s.change()
		time.Sleep(200 * time.Millisecond)
		n += between.Requests()
	}
	took := time.Since(begin)
	for s.change(); s.ready == was; { // the last change is one
		s.change()
	}
	must(s.t, between.Set(nil))
	right := s.right()
	counts := l.End()
	if most := burstRequests + int(mostRequests*took.Seconds()); n > most {
		wrong = fmt.Errorf("%d requests in %v, want at most %d", n, took, most)
	}
	if n == 0 && !f.Down {
		wrong = errors.Join(wrong, fmt.Errorf("no request in %v", took))
	}
	if right > mostWrong {
		wrong = errors.Join(wrong, fmt.Errorf("right after %v", right))
	}
	return faults.Result{Row: apiRow, Fault: f.Name, Counts: counts, Right: right,
		Note: fmt.Sprintf("%.0f s; %d requests; %s", took.Seconds(), n, s.flat(f.Name, before))}, wrong
}

// wantDiffEqual checks that a fresh start would write nothing.
func (s *apiSite) wantDiffEqual() {
	s.t.Helper()
	if out := s.run(append([]string{"diff"}, s.args[1:]...)...); !strings.HasPrefix(out, "equal: ") {
		s.t.Errorf("the kernel does not hold what the cluster asks for:\n%s", out)
	}
}

// flipper forwards connections, and flips bits in them while it is told to.
type flipper struct{ flips atomic.Bool }

func (f *flipper) serve(ns *netns.NS, at, to netip.AddrPort) (net.Listener, error) {
	var l net.Listener
	if err := ns.Do(func() (err error) { l, err = net.Listen("tcp", at.String()); return err }); err != nil {
		return nil, err
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go f.forward(ns, conn, to)
		}
	}()
	return l, nil
}

func (f *flipper) forward(ns *netns.NS, client net.Conn, to netip.AddrPort) {
	defer func() { _ = client.Close() }()
	var server net.Conn
	if err := ns.Do(func() (err error) { server, err = net.Dial("tcp", to.String()); return err }); err != nil {
		return
	}
	defer func() { _ = server.Close() }()
	go func() {
		_, _ = io.Copy(server, client)
		_ = server.Close()
	}()
	buf := make([]byte, 4096)
	for {
		n, err := server.Read(buf)
		if n > 0 && f.flips.Load() {
			buf[n/2] ^= 4
		}
		if _, failed := client.Write(buf[:n]); err != nil || failed != nil {
			return
		}
	}
}

// TestBitFlips: what is not as the API server sent it is not believed. TLS sees to that.
func TestBitFlips(t *testing.T) {
	f := &flipper{}
	s := newAPISite(t, func(s *site) []string {
		at := netip.AddrPortFrom(s.Outside.V4, 7444)
		l, err := f.serve(s.Outside.NS, at, s.cp.Address())
		must(t, err)
		t.Cleanup(func() { _ = l.Close() })
		text, err := os.ReadFile(s.cp.Kubeconfig())
		must(t, err)
		path := filepath.Join(t.TempDir(), "kubeconfig")
		must(t, os.WriteFile(path, []byte(strings.ReplaceAll(string(text), s.cp.Address().String(), at.String())), 0o600))
		return []string{"--kubeconfig", path}
	})
	before := s.resources()
	l := s.load()
	long, was := faults.Amount(2*time.Second, 3*time.Second, 8*time.Second), s.ready
	f.flips.Store(true)
	for begin := time.Now(); time.Since(begin) < long; time.Sleep(200 * time.Millisecond) {
		s.change()
	}
	for s.change(); s.ready == was; {
		s.change()
	}
	f.flips.Store(false)
	right := s.right()
	counts := l.End()
	if right > mostWrong {
		t.Errorf("right after %v", right)
	}
	faults.Record(t, faults.Result{Row: apiRow, Fault: fmt.Sprintf("a bit flipped in each part of what it sends, %v", long), Counts: counts, Right: right, Note: s.flat("flips", before)})
	s.wantDiffEqual()
}

// end kills a server of the control plane.
func (cp *ControlPlane) end(name string) error {
	i := slices.IndexFunc(cp.processes, func(p *process) bool { return p.name == name })
	p := cp.processes[i]
	cp.processes = slices.Delete(cp.processes, i, i+1)
	return p.kill()
}

// begin starts etcd, if it does not run, and the API server.
func (cp *ControlPlane) begin(ctx context.Context) error {
	servers, err := cp.servers(Config{})
	if err != nil {
		return err
	}
	servers = slices.DeleteFunc(servers, func(s server) bool {
		return slices.ContainsFunc(cp.processes, func(p *process) bool { return p.name == s.name })
	})
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	return cp.startServers(ctx, io.Discard, servers)
}

// TestAPIRestarts ends the API server and its etcd, and starts them with what they had, with nothing, and with what they had long ago.
func TestAPIRestarts(t *testing.T) {
	s := newAPISite(t, func(s *site) []string { return []string{"--kubeconfig", s.cp.Kubeconfig()} })
	ctx := t.Context()
	etcd, old := filepath.Join(s.cp.dir, "etcd"), filepath.Join(s.cp.dir, "etcd-old")
	down := func(names ...string) {
		t.Helper()
		for _, n := range names {
			must(t, s.cp.end(n))
		}
	}
	before := s.resources()
	record := func(fault string, l *faults.Load, right time.Duration) {
		t.Helper()
		if right > mostWrong {
			t.Errorf("%s: right after %v", fault, right)
		}
		faults.Record(t, faults.Result{Row: apiRow, Fault: fault, Counts: l.End(), Right: right, Note: s.flat(fault, before)})
	}

	l := s.load()
	down(apiServer)
	time.Sleep(faults.Amount(time.Second, 2*time.Second, 20*time.Second))
	must(t, s.cp.begin(ctx))
	s.change()
	record("restarted", l, s.right())

	// The copy is from here on older than what nftproxy knows.
	down(apiServer, etcdServer)
	must(t, os.CopyFS(old, os.DirFS(etcd)))
	must(t, os.RemoveAll(filepath.Join(s.cp.dir, etcdSocket)))
	must(t, s.cp.begin(ctx))
	for range 21 { // an odd number: the last is not what the copy has
		s.change()
	}
	s.right()
	l = s.load()
	down(apiServer, etcdServer)
	must(t, errors.Join(os.RemoveAll(etcd), os.Rename(old, etcd), os.RemoveAll(filepath.Join(s.cp.dir, etcdSocket))))
	must(t, s.cp.begin(ctx))
	s.ready = !s.ready
	record("older etcd: restored from a backup", l, s.right())

	// Nothing at all, and then again what there was.
	down(apiServer, etcdServer)
	must(t, errors.Join(os.Rename(etcd, old), os.RemoveAll(filepath.Join(s.cp.dir, etcdSocket))))
	must(t, s.cp.begin(ctx))
	time.Sleep(faults.Amount(time.Second, 5*time.Second, 20*time.Second))
	down(apiServer, etcdServer)
	must(t, errors.Join(os.RemoveAll(etcd), os.Rename(old, etcd), os.RemoveAll(filepath.Join(s.cp.dir, etcdSocket))))
	must(t, s.cp.begin(ctx))
	begin := time.Now()
	s.served(s.web, s.Local[0], s.RemotePods[0])
	if right := time.Since(begin); right > mostWrong {
		t.Errorf("after an empty etcd right after %v", right)
	} else {
		faults.Note(t, faults.Result{Row: apiRow, Fault: "empty etcd, and then again what it had", Right: right,
			Note: "while it is empty there are no Services, as it says; " + s.flat("empty etcd", before)})
	}
	s.wantDiffEqual()
}
