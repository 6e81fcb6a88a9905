// SPDX-License-Identifier: Apache-2.0

package health

import (
	"fmt"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/nftproxy/nftproxy/internal/kubeproxytests"
)

// TestHealthOfKubeProxy replays what kube-proxy's own tests expect of health check ports. The ports themselves are others: tests
// that run meanwhile may have theirs.
func TestHealthOfKubeProxy(t *testing.T) {
	var unwell atomic.Bool
	h := New(Config{Healthy: func() bool { return !unwell.Load() }, OnError: func(s Service, at netip.AddrPort, err error) { t.Errorf("%v at %s: %v", s, at, err) }})
	defer h.Close()
	h.SetAddresses(loopbacks()[:1])
	ports, taken, counts := map[string]uint16{}, map[uint16]uint16{}, map[string]int{}
	ours := func(theirs uint16) uint16 {
		if taken[theirs] == 0 {
			taken[theirs] = freePort(t)
		}
		return taken[theirs]
	}
	set := func(service string) {
		namespace, name, _ := strings.Cut(service, "/")
		h.SetService(namespace, name, ports[service], [2]int{counts[service]})
	}
	differences := map[string]string{}
	for i, c := range kubeproxytests.Read[struct {
		Step, Service     string
		Ports             map[string]uint16
		Counts            map[string]int
		Status, Endpoints int
		Healthy           bool
	}](t, "health") {
		switch c.Step {
		case "services":
			for service := range ports {
				if c.Ports[service] == 0 {
					namespace, name, _ := strings.Cut(service, "/")
					h.DeleteService(namespace, name)
					delete(ports, service)
					delete(counts, service) // endpoints of a service that is none are not kept
				}
			}
			for service, port := range c.Ports {
				if ports[service] != 0 && ports[service] != ours(port) {
					counts[service] = 0 // kube-proxy forgets them with the port, and is told again
				}
				ports[service] = ours(port)
				set(service)
			}
		case "endpoints":
			for service := range ports {
				counts[service] = c.Counts[service]
				set(service)
			}
		case "check":
			unwell.Store(!c.Healthy)
			namespace, name, _ := strings.Cut(c.Service, "/")
			want := strings.NewReplacer(`"shop"`, `"`+namespace+`"`, `"web"`, `"`+name+`"`).Replace(answered(c.Status, c.Endpoints, c.Healthy))
			step := fmt.Sprintf("line %d, %s", i+1, c.Service)
			differences[step] = ""
			if got := get(t, loopbacks()[0], ports[c.Service]); got != want {
				differences[step] = fmt.Sprintf("%s, kube-proxy: %s", got, want)
			}
		default:
			t.Errorf("line %d is %q", i+1, c.Step)
		}
	}
	kubeproxytests.Purposes{}.Compare(t, differences)
}
