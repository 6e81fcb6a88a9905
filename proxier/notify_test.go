// SPDX-License-Identifier: Apache-2.0

package proxier_test

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/rulestest"
)

// Warning implements proxier.Events.
func (n *node) Warning(about corev1.ObjectReference, reason, message string) {
	n.events = append(n.events, fmt.Sprintf("%s %s %s/%s %s %s: %s", about.APIVersion, about.Kind, about.Namespace, about.Name, about.UID, reason, message))
}

// expectEvents checks the events since the last call: one for each text, which it
// contains.
func (n *node) expectEvents(want ...string) {
	n.t.Helper()
	got := n.events
	n.events = nil
	ok := len(got) == len(want)
	for i := range min(len(got), len(want)) {
		ok = ok && strings.Contains(got[i], want[i])
	}
	if !ok {
		n.t.Errorf("events %q, want %q", got, want)
	}
}

// loopback implements proxier.LocalPorts.
type loopback map[string]string

func (l loopback) Set(network string, at netip.AddrPort, endpoints []netip.AddrPort, affinity time.Duration) error {
	if at.Port() == 30999 {
		return errors.New("address already in use")
	}
	l[network+" "+at.String()] = fmt.Sprint(endpoints, affinity)
	return nil
}

func (l loopback) Delete(network string, at netip.AddrPort) { delete(l, network+" "+at.String()) }

func (l loopback) String() string {
	var out []string
	for _, at := range slices.Sorted(maps.Keys(l)) {
		out = append(out, at+" "+l[at])
	}
	return strings.Join(out, ", ")
}

func TestEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kernel := &rulestest.Kernel{}
		n := start(t, kernel)
		defer n.stop()
		n.lists(created(service("web", "10.96.0.1", "80"), 100), endpoints("a", "web", "8080", "10.0.0.1"))
		n.expectEvents()

		bad := service("bad", "10.96.0.2", "80", "other:0")
		bad.UID, bad.Spec.ExternalIPs = "u1", []string{"x"}
		n.UpdateService(bad)
		n.expectEvents(`v1 Service default/bad u1 InvalidService: service default/bad: port "other" has number 0: left out; ` +
			`service default/bad: externalIP "x" is not an IP address: left out`)

		es := endpoints("b", "web", "8080", "10.0.0.1")
		es.UID, es.Endpoints[0].Addresses = "u2", []string{"fd00::1"}
		n.UpdateEndpointSlice(es)
		n.expectEvents("discovery.k8s.io/v1 EndpointSlice default/b u2 InvalidEndpointSlice: endpointslice default/b: endpoint 0: address fd00::1 is not")

		n.UpdateService(created(service("late", "10.96.0.1", "80"), 200))
		synctest.Wait()
		n.expectEvents("Service default/late  FrontendConflict: ")
		n.UpdateService(created(service("late", "10.96.0.3", "80"), 200))
		synctest.Wait()
		n.expectEvents()

		kernel.Refuse(func(op rules.Op) bool { return op.Kind == rules.AddChain && op.Chain.Name == "service/default/refused" })
		n.UpdateService(service("refused", "10.96.0.4", "80"))
		n.UpdateEndpointSlice(endpoints("r", "refused", "8080", "10.0.0.1 10.0.0.2"))
		synctest.Wait()
		n.expectEvents("Service default/refused  KernelRefused: default/refused (ip) is not programmed: ")
	})
}

func TestLocalPorts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := start(t, &rulestest.Kernel{})
		defer n.stop()
		nodePort := func(name, ip string, ports ...int32) *corev1.Service {
			s := service(name, ip, "80", "u:80/UDP", "s:80/SCTP")
			for i, p := range ports {
				s.Spec.Ports[i].NodePort = p
			}
			s.Spec.Type = corev1.ServiceTypeNodePort
			return s
		}
		expect := func(want string) {
			t.Helper()
			synctest.Wait()
			if got := n.ports.String(); got != want {
				t.Errorf("served on loopback addresses: %s, want %s", got, want)
			}
		}
		a := nodePort("a", "10.96.0.1 fd00::1", 30001, 30001, 30001)
		n.lists(a, endpoints("a", "a", "8080", "10.0.0.1 10.0.0.2"), endpoints("a6", "a", "8080", "fd00:1::1"))
		expect("tcp 127.0.0.1:30001 [10.0.0.1:8080 10.0.0.2:8080] 0s, tcp [::1]:30001 [[fd00:1::1]:8080] 0s, " +
			"udp 127.0.0.1:30001 [] 0s, udp [::1]:30001 [] 0s")

		// A port goes from one Service to another at once, whichever comes first by name.
		n.UpdateService(nodePort("a", "10.96.0.1", 30002))
		n.UpdateService(nodePort("0", "10.96.0.2", 30001))
		n.UpdateService(nodePort("z", "10.96.0.3", 0, 30001))
		expect("tcp 127.0.0.1:30001 [] 0s, tcp 127.0.0.1:30002 [10.0.0.1:8080 10.0.0.2:8080] 0s, udp 127.0.0.1:30001 [] 0s")

		// Only this node's endpoints, and one for each client.
		local := nodePort("a", "10.96.0.1", 30002)
		local.Spec.ExternalTrafficPolicy, local.Spec.SessionAffinity = corev1.ServiceExternalTrafficPolicyLocal, corev1.ServiceAffinityClientIP
		n.UpdateService(local)
		n.DeleteService("default", "0")
		n.DeleteService("default", "z")
		expect("tcp 127.0.0.1:30002 [] 3h0m0s")
		n.events = nil

		n.UpdateService(nodePort("a", "10.96.0.1", 30999, 30003))
		expect("udp 127.0.0.1:30003 [] 0s")
		n.expectEvents("Service default/a  PortInUse: NodePort is not served on a loopback address: address already in use")
		n.DeleteService("default", "a")
		expect("")
	})
}
