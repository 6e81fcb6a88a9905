// SPDX-License-Identifier: Apache-2.0

//go:build linux

package packets

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/netns/netnstest"
	"github.com/nftproxy/nftproxy/e2e/traffic"
)

// TestServiceMetrics counts new connections by service port: exactly, whatever becomes of
// endpoints and of nftproxy itself meanwhile.
func TestServiceMetrics(t *testing.T) {
	t.Parallel()
	w := newWorld(t, config{args: []string{"--service-metrics"}})
	w.put(t, nodeObject(nil))
	one, two, none := w.service("one").to(ready(w.Local[0])), w.service("two", nodePorts).to(ready(w.Local[0], w.RemotePods[0])), w.service("none")
	w.apply(t, one, two, none)
	want := map[string]int{}
	send := func(s *svc, n int) {
		t.Helper()
		for _, p := range traffic.Protocols() {
			for _, f := range netns.Families() {
				for _, r := range connect(t.Context(), traffic.Client{NS: w.Client.NS}, p, s.at(f, servicePort), n) {
					if r.Outcome != traffic.Answered && s != none {
						t.Errorf("%s over %s: %s", s.Name, f, r)
					}
				}
				key := s.Name + "/" + strings.ToLower(p.String())
				if want[key] += n; s == none {
					want[key] = 0
				}
			}
		}
	}
	check := func(when string) {
		t.Helper()
		if diff := cmp.Diff(want, w.connections(t)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", when, diff)
		}
	}
	send(one, 3)
	send(two, 5)
	send(none, 2)
	check("new connections")
	for _, f := range netns.Families() {
		for i, p := range traffic.Protocols() {
			to := netip.AddrPortFrom(w.Node.Addr(f), 30080+uint16(i))
			for _, r := range connect(t.Context(), traffic.Client{NS: w.Outside.NS}, p, to, 2) {
				if r.Outcome != traffic.Answered {
					t.Errorf("NodePort over %s: %s", f, r)
				}
			}
			want["two/"+strings.ToLower(p.String())] += 2
		}
	}
	check("connections to NodePorts")

	// The only endpoint is replaced, which replaces its element; the other service gets one more.
	w.apply(t, one.to(ready(w.RemotePods[1])), two.to(ready(w.Local[0], w.RemotePods[0], w.RemotePods[2])))
	check("endpoints have changed")
	send(one, 4)
	send(two, 4)
	check("connections since")

	w.stop(t)
	before := w.connectionsInKernel(t)
	w.start(t)
	w.wantLog(t, "changes=0")
	if diff := cmp.Diff(before, w.connectionsInKernel(t)); diff != "" {
		t.Errorf("a restart changed the counters (-before +after):\n%s", diff)
	}
	send(two, 1)
	// A new process begins with what the kernel has counted: of one, since its element is there.
	for _, p := range traffic.Protocols() {
		want["one/"+strings.ToLower(p.String())] = 2 * 4
	}
	check("nftproxy was restarted")
	w.remove(t, one)
	for _, p := range traffic.Protocols() {
		delete(want, "one/"+strings.ToLower(p.String()))
	}
	check("a service is gone")

	// Switched off, nothing is counted, and the rest goes on.
	w.stop(t)
	w.args = w.args[:len(w.args)-1]
	w.start(t)
	want = map[string]int{}
	check("switched off")
	if text := w.run(t, "dump", "--kernel"); strings.Contains(text, "counter") {
		t.Errorf("there are counters still:\n%s", text)
	}
	w.wantEverywhere(t, two, spread(w.Local[0], w.RemotePods[0], w.RemotePods[2]))
}

// TestServiceMetricsListing: the counters are shown as nft shows them.
func TestServiceMetricsListing(t *testing.T) {
	t.Parallel()
	netnstest.Tool(t, "nft")
	w := newWorld(t, config{args: []string{"--service-metrics", "--own-tables=never"}}) // nft 1.0.6 does not know the flag persist
	one := w.service("one").to(ready(w.Local[0]))
	w.apply(t, one)
	connect(t.Context(), traffic.Client{NS: w.Client.NS}, traffic.TCP, one.at(netns.IPv4, servicePort), 3)
	dump := w.run(t, "dump", "--kernel")
	if diff := cmp.Diff(w.listRuleset(t), netnstest.AsListed(dump)); diff != "" {
		t.Errorf("dump is not what nft lists (-nft +dump):\n%s", diff)
	}
	if line := fmt.Sprintf("%s . tcp . %d counter packets 3 bytes ", one.at(netns.IPv4, 0).Addr(), servicePort); !strings.Contains(dump, line) {
		t.Errorf("no %q in\n%s", line, dump)
	}
	if out := w.run(t, "diff", "--manifests", w.manifests.Dir, "--hostname-override", "node",
		"--cluster-cidr", netns.ClusterCIDR4+","+netns.ClusterCIDR6); strings.Contains(out, "different") {
		t.Errorf("diff takes the counters for a difference:\n%s", out)
	}
}

// nodePorts gives each port of the service a NodePort, from 30080 on.
func nodePorts(s *corev1.Service) {
	s.Spec.Type = corev1.ServiceTypeNodePort
	for i, p := range traffic.Protocols() {
		port(strings.ToLower(p.String()), p, servicePort, backendPort)(s)
		s.Spec.Ports[i].NodePort = 30080 + int32(i)
	}
}

// connections returns nftproxy_service_connections_total by service/port.
func (w *world) connections(t *testing.T) map[string]int {
	t.Helper()
	out := map[string]int{}
	for line := range strings.Lines(w.metrics(t)) {
		if !strings.HasPrefix(line, `nftproxy_service_connections_total{namespace="test",`) {
			continue
		}
		var port, protocol, service string
		var n int
		labels := strings.NewReplacer(`",`, " ", `"}`, " ", `="`, "=").Replace(line[strings.Index(line, "{")+1:])
		var namespace string
		if _, err := fmt.Sscanf(labels, "namespace=%s port=%s protocol=%s service=%s %d", &namespace, &port, &protocol, &service, &n); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		out[service+"/"+port] = n
	}
	return out
}

// connectionsInKernel returns the lines of a dump that have counters.
func (w *world) connectionsInKernel(t *testing.T) []string {
	t.Helper()
	var out []string
	for line := range strings.Lines(w.run(t, "dump", "--kernel")) {
		if strings.Contains(line, "counter packets") {
			out = append(out, strings.TrimSpace(line))
		}
	}
	return out
}
