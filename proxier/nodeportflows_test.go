// SPDX-License-Identifier: Apache-2.0

package proxier_test

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/nftproxy/nftproxy/conntrack"
	"github.com/nftproxy/nftproxy/proxier"
	"github.com/nftproxy/nftproxy/proxier/cluster"
	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/rulestest"
)

// tracking notes what is cleaned at NodePorts.
type tracking struct {
	mu      sync.Mutex
	cleaned []string
	err     error
}

func (*tracking) CountOpen(context.Context, map[rules.Backend]uint32) (time.Duration, error) {
	return 0, nil
}

func (c *tracking) Clean(_ context.Context, targets []conntrack.Target, _ func() []conntrack.Target) (conntrack.Deleted, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range targets {
		if t.Addr.IsUnspecified() {
			text := fmt.Sprintf("%s/%d at %v", netip.AddrPortFrom(t.Addr, t.Port), t.Protocol, t.Local)
			if len(t.Left) > 0 {
				text += fmt.Sprintf(" no more at %v", t.Left)
			}
			if t.LinkLocal {
				text += " and link-local ones"
			}
			c.cleaned = append(c.cleaned, text)
		}
	}
	return conntrack.Deleted{}, c.err
}

// take returns what was cleaned since the last call, sorted, each once, and without what was cleaned again with more.
func (c *tracking) take() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	slices.Sort(c.cleaned)
	var list []string
	for i, s := range c.cleaned {
		if i+1 == len(c.cleaned) || !strings.HasPrefix(c.cleaned[i+1], s) {
			list = append(list, s)
		}
	}
	out := strings.Join(list, "; ")
	c.cleaned = nil
	return out
}

func (c *tracking) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err = err
}

// TestFlowsOfNodePorts: they are looked through when addresses begin or cease to serve NodePorts, in every
// way to choose these, and in the families that this is about.
func TestFlowsOfNodePorts(t *testing.T) {
	type step struct{ addrs, want string }
	node := []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")} // whatever comes and goes
	const first = "10.0.0.1 127.0.0.1 fd00::1 ::1 "
	for name, row := range map[string]struct {
		ports cluster.NodePortAddresses
		node  []netip.Addr // nil: the first ones
		steps []step
	}{
		"CIDRs": {cluster.NodePortAddresses{CIDRs: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/64")}}, node, []step{
			{first + "10.0.0.7", "0.0.0.0:30053/132 at [10.0.0.1 10.0.0.7]; 0.0.0.0:30053/17 at [10.0.0.1 10.0.0.7]; 0.0.0.0:30053/6 at [10.0.0.1 10.0.0.7]"},
			{first + "10.0.0.7 192.0.2.1 fd00:7::7", ""},
			{first + "10.0.0.7 fd00::7", "[::]:30053/132 at [fd00::1 fd00::7]; [::]:30053/17 at [fd00::1 fd00::7]; [::]:30053/6 at [fd00::1 fd00::7]"},
			{"10.0.0.7 127.0.0.1 fd00::1 ::1 fd00::7", "0.0.0.0:30053/132 at [10.0.0.7] no more at [10.0.0.1]; " +
				"0.0.0.0:30053/17 at [10.0.0.7] no more at [10.0.0.1]; 0.0.0.0:30053/6 at [10.0.0.7] no more at [10.0.0.1]"},
			{"127.0.0.1 fd00::1 ::1 fd00::7", "0.0.0.0:30053/132 at [] no more at [10.0.0.7]; " +
				"0.0.0.0:30053/17 at [] no more at [10.0.0.7]; 0.0.0.0:30053/6 at [] no more at [10.0.0.7]"},
		}},
		"all": {cluster.NodePortAddresses{CIDRs: prefixes("0.0.0.0/0", "::/0")}, node, []step{
			{first + "10.0.0.7", "0.0.0.0:30053/132 at [10.0.0.1 10.0.0.7] and link-local ones; " +
				"0.0.0.0:30053/17 at [10.0.0.1 10.0.0.7] and link-local ones; 0.0.0.0:30053/6 at [10.0.0.1 10.0.0.7] and link-local ones"},
			{first, "0.0.0.0:30053/132 at [10.0.0.1] no more at [10.0.0.7] and link-local ones; " +
				"0.0.0.0:30053/17 at [10.0.0.1] no more at [10.0.0.7] and link-local ones; 0.0.0.0:30053/6 at [10.0.0.1] no more at [10.0.0.7] and link-local ones"},
		}},
		"primary": {cluster.NodePortAddresses{Primary: true}, nil, []step{
			{first + "10.0.0.7", ""},
			{"10.0.0.7 127.0.0.1 fd00::1 ::1", "0.0.0.0:30053/132 at [10.0.0.7] no more at [10.0.0.1]; " +
				"0.0.0.0:30053/17 at [10.0.0.7] no more at [10.0.0.1]; 0.0.0.0:30053/6 at [10.0.0.7] no more at [10.0.0.1]; " +
				"[::]:30053/132 at [fd00::1]; [::]:30053/17 at [fd00::1]; [::]:30053/6 at [fd00::1]"}, // all is built anew
		}},
		"localhost": {cluster.NodePortAddresses{CIDRs: prefixes("127.0.0.0/8", "::1/128")}, node, []step{{first + "10.0.0.7", ""}, {first, ""}}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				own, cleaned := &addresses{changed: make(chan struct{}, 1)}, &tracking{}
				own.set(first)
				p, stop := runWith(t, proxier.Config{Cluster: cluster.Config{Addresses: own, NodePorts: row.ports, NodeIPs: row.node}, Kernel: &rulestest.Kernel{}, Conntrack: cleaned, Rules: rules.Config{AllNodePortIPs: row.ports.Everything()}})
				defer stop()
				p.ReplaceServices([]*corev1.Service{withNodePort(service("dns", "10.96.0.1 fd00:96::1", "u:53/UDP", "t:53", "s:53/SCTP"))})
				p.ReplaceEndpointSlices([]*discoveryv1.EndpointSlice{endpoints("w", "dns", "u:53/UDP", "10.0.0.1")})
				time.Sleep(time.Minute)
				cleaned.take()
				for _, s := range row.steps {
					own.set(s.addrs)
					time.Sleep(time.Minute)
					if got := cleaned.take(); got != s.want {
						t.Errorf("node with %s: cleaned\n %s, want\n %s", s.addrs, got, s.want)
					}
				}
			})
		})
	}
}

// TestFlowsOfNodePortsLater: what could not be cleaned at an address that has left is not forgotten, nor is it cleaned
// when the address is back.
func TestFlowsOfNodePortsLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		own, cleaned := &addresses{changed: make(chan struct{}, 1)}, &tracking{}
		own.set("10.0.0.1 10.0.0.7")
		p, stop := runWith(t, proxier.Config{Cluster: cluster.Config{Addresses: own, NodePorts: cluster.NodePortAddresses{CIDRs: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/64")}}}, Kernel: &rulestest.Kernel{}, Conntrack: cleaned})
		defer stop()
		p.ReplaceServices([]*corev1.Service{withNodePort(service("dns", "10.96.0.1", "53/UDP"))})
		p.ReplaceEndpointSlices(nil)
		time.Sleep(time.Minute)
		cleaned.fail(fmt.Errorf("no buffer space available"))
		own.set("10.0.0.1")
		time.Sleep(time.Minute)
		for _, step := range []struct{ addrs, want string }{
			{"10.0.0.1", "0.0.0.0:30053/17 at [10.0.0.1] no more at [10.0.0.7]"},
			{"10.0.0.1 10.0.0.7", "0.0.0.0:30053/17 at [10.0.0.1 10.0.0.7]"},
		} {
			own.set(step.addrs)
			time.Sleep(time.Second)
			cleaned.take()
			time.Sleep(time.Hour)
			if got := cleaned.take(); got != step.want {
				t.Errorf("node with %s: cleaned %s, want %s", step.addrs, got, step.want)
			}
		}
	})
}

// TestFlowsOfNodePortsAfterARestart: an address may have left while nobody looked.
func TestFlowsOfNodePortsAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kernel := &rulestest.Kernel{}
		own, cleaned := &addresses{changed: make(chan struct{}, 1)}, &tracking{}
		for _, run := range []struct{ addrs, want string }{
			{"10.0.0.1 10.0.0.7", "0.0.0.0:30053/17 at [10.0.0.1 10.0.0.7] and link-local ones"},
			{"10.0.0.1", "0.0.0.0:30053/17 at [10.0.0.1] no more at [10.0.0.7] and link-local ones"},
		} {
			own.set(run.addrs)
			p, stop := runWith(t, proxier.Config{Cluster: cluster.Config{Addresses: own, NodePorts: cluster.NodePortAddresses{CIDRs: prefixes("0.0.0.0/0", "::/0")}}, Kernel: kernel, Conntrack: cleaned, Rules: rules.Config{AllNodePortIPs: true}})
			p.ReplaceServices([]*corev1.Service{withNodePort(service("dns", "10.96.0.1", "53/UDP"))})
			p.ReplaceEndpointSlices(nil)
			time.Sleep(time.Minute)
			stop()
			if got := cleaned.take(); got != run.want {
				t.Errorf("started with %s: cleaned %s, want %s", run.addrs, got, run.want)
			}
		}
	})
}

// TestFlowsOfAReplacedTable: where it served what has gone while nobody looked, flows are looked through, too, whatever it is
// that makes the table be replaced.
func TestFlowsOfAReplacedTable(t *testing.T) {
	for name, change := range map[string]func(*rules.Config){
		"connections are counted":    func(c *rules.Config) { c.CountConnections = true },
		"maps of clients are larger": func(c *rules.Config) { c.AffinitySize = 2000 },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				kernel := &rulestest.Kernel{}
				own, cleaned := &addresses{changed: make(chan struct{}, 1)}, &tracking{}
				config := proxier.Config{Cluster: cluster.Config{Addresses: own, NodePorts: cluster.NodePortAddresses{CIDRs: prefixes("10.0.0.0/8")}}, Kernel: kernel, Conntrack: cleaned}
				run := func(addrs string, services ...*corev1.Service) {
					own.set(addrs)
					p, stop := runWith(t, config)
					defer stop()
					p.ReplaceServices(services)
					p.ReplaceEndpointSlices([]*discoveryv1.EndpointSlice{endpoints("s", "sticky", "80", "10.244.0.1 10.244.0.2")})
					time.Sleep(time.Minute)
				}
				sticky := service("sticky", "10.96.0.2", "80")
				sticky.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
				run("10.0.0.1 10.0.0.7", withNodePort(service("dns", "10.96.0.1", "53/UDP")), sticky)
				cleaned.take()
				change(&config.Rules)
				run("10.0.0.1", sticky)
				if got, want := cleaned.take(), "0.0.0.0:30053/17 at [10.0.0.1] no more at [10.0.0.7]"; got != want {
					t.Errorf("cleaned %q, want %q", got, want)
				}
			})
		})
	}
}

// withNodePort gives all ports of a service the NodePort 30053, which TCP, UDP and SCTP have each for themselves.
func withNodePort(s *corev1.Service) *corev1.Service {
	s.Spec.Type = corev1.ServiceTypeNodePort
	for i := range s.Spec.Ports {
		s.Spec.Ports[i].NodePort = 30053
	}
	return s
}

func prefixes(list ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}
