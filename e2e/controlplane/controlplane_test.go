// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/tools/clientcmd"
)

// TestControlPlane follows a Service and its Pods through one control plane:
// starting it once is most of the time that the test takes.
func TestControlPlane(t *testing.T) {
	address := netip.MustParseAddr("172.18.0.1")
	cp := startForTest(t, Config{NetNS: newNetNS(t, address), Address: address})
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute) // for all of it
	defer cancel()

	checkKubeconfig(t, cp, address)
	service := createService(ctx, t, cp, "shop", "web")
	checkClusterIPs(t, service)

	node := NodeSpec{Name: "node-a", Zone: "zone-a", IPs: addrs("172.18.0.2", "fd00:172:18::2")}
	must(t, cp.CreateNode(ctx, node))
	must(t, cp.CreateBackends(ctx, "shop", "web", []PodSpec{
		{Name: "web-1", Node: "node-a", IPs: addrs("10.244.1.1", "fd00:10:244:1::1")},
		{Name: "web-2", Node: "node-a", IPs: addrs("10.244.1.2", "fd00:10:244:1::2")},
		{Name: "web-3", Node: "node-a", IPs: addrs("10.244.1.3", "fd00:10:244:1::3")},
	}))
	for _, step := range []struct {
		name   string
		change func() error
		want   []string
	}{
		{
			"all ready", func() error { return nil },
			[]string{
				"10.244.1.1 ready", "10.244.1.2 ready", "10.244.1.3 ready",
				"fd00:10:244:1::1 ready", "fd00:10:244:1::2 ready", "fd00:10:244:1::3 ready",
			},
		},
		{
			"one not ready", func() error { return cp.SetReady(ctx, "shop", "web-1", false) },
			[]string{
				"10.244.1.1 down", "10.244.1.2 ready", "10.244.1.3 ready",
				"fd00:10:244:1::1 down", "fd00:10:244:1::2 ready", "fd00:10:244:1::3 ready",
			},
		},
		{
			"one terminating", func() error { return cp.TerminateBackend(ctx, "shop", "web-2") },
			[]string{
				"10.244.1.1 down", "10.244.1.2 terminating", "10.244.1.3 ready",
				"fd00:10:244:1::1 down", "fd00:10:244:1::2 terminating", "fd00:10:244:1::3 ready",
			},
		},
		{
			"one deleted", func() error { return cp.DeleteBackends(ctx, "shop", "web", "web-2") },
			[]string{
				"10.244.1.1 down", "10.244.1.3 ready",
				"fd00:10:244:1::1 down", "fd00:10:244:1::3 ready",
			},
		},
		{"all deleted", func() error { return cp.DeleteBackends(ctx, "shop", "web") }, nil},
	} {
		if err := step.change(); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		waitEndpoints(ctx, t, cp, service, step.want)
	}
	checkRestart(ctx, t, cp)
	checkStop(t, cp)
}

// TestAddresses starts control planes that are reached at other addresses.
func TestAddresses(t *testing.T) {
	for name, address := range map[string]netip.Addr{
		"loopback": {},
		"IPv6":     netip.MustParseAddr("fd00:172:18::1"),
	} {
		t.Run(name, func(t *testing.T) {
			var own []netip.Addr
			if address.IsValid() {
				own = append(own, address)
			}
			cp := startForTest(t, Config{NetNS: newNetNS(t, own...), Address: address})
			if !address.IsValid() {
				address = netip.MustParseAddr("127.0.0.1")
			}
			checkKubeconfig(t, cp, address)
			service := createService(t.Context(), t, cp, "shop", "web")
			if first := netip.MustParseAddr(service.Spec.ClusterIP); first.Is6() != address.Is6() {
				t.Errorf("the first ClusterIP is %s, want the family of %s", first, address)
			}
		})
	}
}

// TestStartReportsFailure looks for the reason in the failed server's log.
func TestStartReportsFailure(t *testing.T) {
	dir := t.TempDir()
	_, err := Start(t.Context(), Config{NetNS: newNetNS(t), Address: netip.MustParseAddr("224.0.0.1"), Dir: dir})
	if err == nil {
		t.Fatal("an API server started at a multicast address")
	}
	for _, want := range []string{apiServer + " ended", "cannot use public IP 224.0.0.1"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not say %q:\n%v", want, err)
		}
	}
	checkEmpty(t, dir)
}

func TestStartCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	dir := t.TempDir()
	if _, err := Start(ctx, Config{NetNS: newNetNS(t), Dir: dir}); !errors.Is(err, context.Canceled) {
		t.Errorf("Start with a cancelled context: got error %v, want %v", err, context.Canceled)
	}
	checkEmpty(t, dir)
}

// TestStartInChild guards against a program that forgets RunChild: its
// children would start control planes without end.
func TestStartInChild(t *testing.T) {
	t.Setenv(childEnv, etcdServer)
	if _, err := Start(t.Context(), Config{}); err == nil || !strings.Contains(err.Error(), "RunChild") {
		t.Errorf("Start in a child: got error %v, want one that names RunChild", err)
	}
}

func startForTest(t *testing.T, config Config) *ControlPlane {
	t.Helper()
	config.Dir = t.TempDir()
	config.Log = t.Output()
	config.Servers = os.Getenv(serversEnv)
	began := time.Now()
	cp, err := Start(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("ready after %.1f s", time.Since(began).Seconds())
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(cp.Logs())
		}
		if err := cp.Stop(); err != nil {
			t.Errorf("stop control plane: %v", err)
		}
	})
	return cp
}

// checkKubeconfig reads the file as a user does, and checks that its server
// is in the namespace: nobody answers outside.
func checkKubeconfig(t *testing.T, cp *ControlPlane, address netip.Addr) {
	t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", cp.Kubeconfig())
	must(t, err)
	server := strings.TrimPrefix(config.Host, "https://")
	if host, _, _ := net.SplitHostPort(server); host != address.String() {
		t.Errorf("the kubeconfig's server is %s, want it at %s", config.Host, address)
	}
	_, port, err := net.SplitHostPort(server)
	must(t, err)
	for _, reachable := range []string{server, "127.0.0.1:" + port, "[::1]:" + port} {
		conn, err := cp.ns.dial(t.Context(), "tcp", reachable)
		if err != nil {
			t.Errorf("dial the API server in its namespace: %v", err)
			continue
		}
		conn.Close()
	}
	outside := net.Dialer{Timeout: 100 * time.Millisecond}
	if conn, err := outside.DialContext(t.Context(), "tcp", server); err == nil {
		conn.Close()
		t.Errorf("%s can be reached from outside the namespace", server)
	}
}

func createService(ctx context.Context, t *testing.T, cp *ControlPlane, namespace, name string) *corev1.Service {
	t.Helper()
	must(t, cp.EnsureNamespace(ctx, namespace))
	dual := corev1.IPFamilyPolicyRequireDualStack
	service := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.ServiceSpec{
			IPFamilyPolicy: &dual,
			Selector:       map[string]string{AppLabel: name},
			Ports:          []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromInt32(8080)}},
		},
	}
	service, err := cp.Client().CoreV1().Services(namespace).Create(ctx, service, metav1.CreateOptions{})
	must(t, err)
	return service
}

func checkClusterIPs(t *testing.T, service *corev1.Service) {
	t.Helper()
	ranges := []netip.Prefix{netip.MustParsePrefix(ServiceRange4), netip.MustParsePrefix(ServiceRange6)}
	if len(service.Spec.ClusterIPs) != len(ranges) {
		t.Fatalf("ClusterIPs are %v, want one of each family", service.Spec.ClusterIPs)
	}
	for i, text := range service.Spec.ClusterIPs {
		if !ranges[i].Contains(netip.MustParseAddr(text)) {
			t.Errorf("ClusterIP %s is not in %s", text, ranges[i])
		}
	}
}

// waitEndpoints waits until the Service's slices have the endpoints, each with the port.
func waitEndpoints(ctx context.Context, t *testing.T, cp *ControlPlane, service *corev1.Service, want []string) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	selector := metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=" + service.Name}
	var got []string
	for {
		list, err := cp.Client().DiscoveryV1().EndpointSlices(service.Namespace).List(ctx, selector)
		if err == nil {
			if got = describeEndpoints(list); slices.Equal(got, want) {
				return
			}
		}
		select {
		case <-ctx.Done():
			t.Fatalf("endpoints of %s: got %q (%v), want %q", service.Name, got, err, want)
		case <-tick.C:
		}
	}
}

func describeEndpoints(list *discoveryv1.EndpointSliceList) []string {
	var all []string
	for _, slice := range list.Items {
		for _, endpoint := range slice.Endpoints {
			state := "down"
			switch c := endpoint.Conditions; {
			case c.Ready != nil && *c.Ready:
				state = "ready"
			case c.Serving != nil && *c.Serving && c.Terminating != nil && *c.Terminating:
				state = "terminating"
			}
			if len(slice.Ports) != 1 || *slice.Ports[0].Port != 8080 {
				state += " at wrong port"
			}
			all = append(all, fmt.Sprintf("%s %s", endpoint.Addresses[0], state))
		}
	}
	slices.Sort(all)
	return all
}

// checkRestart checks that the API server is another process then, with all that there was.
func checkRestart(ctx context.Context, t *testing.T, cp *ControlPlane) {
	t.Helper()
	before := cp.running()
	must(t, cp.RestartAPIServer(ctx, 0))
	for i, p := range cp.running() {
		if restarted := p != before[i]; restarted != (p.name == apiServer) {
			t.Errorf("%s was restarted: %v", p.name, restarted)
		}
	}
	if _, err := cp.Client().CoreV1().Services("shop").Get(ctx, "web", metav1.GetOptions{}); err != nil {
		t.Errorf("a Service from before the restart: %v", err)
	}
}

// checkStop checks that Stop leaves neither a process nor a file.
func checkStop(t *testing.T, cp *ControlPlane) {
	t.Helper()
	if len(cp.processes) != 3 {
		t.Errorf("the control plane has %d processes, want 3", len(cp.processes))
	}
	for _, p := range cp.processes {
		if err := p.cmd.Process.Signal(syscall.Signal(0)); err != nil {
			t.Errorf("%s did not live until Stop: %v", p.name, err)
		}
	}
	must(t, cp.Stop())
	for _, p := range cp.processes {
		if err := syscall.Kill(p.cmd.Process.Pid, 0); !errors.Is(err, syscall.ESRCH) {
			t.Errorf("%s, process %d, is left: %v", p.name, p.cmd.Process.Pid, err)
		}
	}
	if _, err := os.Stat(cp.dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is left: %v", cp.dir, err)
	}
}

func checkEmpty(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must(t, err)
	if len(entries) > 0 {
		t.Errorf("%s is left", entries[0].Name())
	}
}

func addrs(texts ...string) []netip.Addr {
	var all []netip.Addr
	for _, text := range texts {
		all = append(all, netip.MustParseAddr(text))
	}
	return all
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
