// SPDX-License-Identifier: Apache-2.0

//go:build linux

package packets

import (
	"fmt"
	"net/netip"
	"sync"
	"testing"

	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/traffic"
)

// cycle is round robin at one port of a service in one family, watched for as long
// as a test likes: the answers of all connections must be in turn.
type cycle struct {
	client   traffic.Client
	protocol traffic.Protocol
	to       netip.AddrPort
	backends []netip.AddrPort
	results  []traffic.Result
}

// cyclesOf returns the cycles of a service: one for each protocol in each family.
func cyclesOf(s *svc, from netns.Host, hosts ...netns.Host) []*cycle {
	var list []*cycle
	for _, p := range traffic.Protocols() {
		for _, f := range netns.Families() {
			list = append(list, &cycle{client: traffic.Client{NS: from.NS}, protocol: p,
				to: s.at(f, servicePort), backends: spread(hosts...).addresses(f)})
		}
	}
	return list
}

// turn makes n connections.
func (c *cycle) turn(t *testing.T, n int) {
	c.results = append(c.results, connect(t.Context(), c.client, c.protocol, c.to, n)...)
}

// check checks all connections so far.
func (c *cycle) check() error {
	if err := inTurn(c.results, c.backends); err != nil {
		return fmt.Errorf("from %s to %s %s: %w", c.client.NS.Name(), c.protocol, c.to, err)
	}
	return nil
}

// turnAll makes n connections in each of the cycles, in turn.
func turnAll(t *testing.T, n int, cycles []*cycle) {
	t.Helper()
	for range n {
		for _, c := range cycles {
			c.turn(t, 1)
		}
	}
}

func checkAll(t *testing.T, cycles []*cycle) {
	t.Helper()
	for _, c := range cycles {
		if err := c.check(); err != nil {
			t.Error(err)
		}
	}
}

// Round robin counts per service port and family: it is exact at each of them
// while connections to all others are made at the same time.
func TestRoundRobinAmongOthers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, config{})
	all := append([]netns.Host{w.Local[0], w.Local[1]}, w.RemotePods...)
	var cycles []*cycle
	for _, n := range []int{1, 2, 3, 7} {
		s := w.service(fmt.Sprintf("of-%d", n)).to(ready(all[:n]...))
		w.put(t, s.objects()...)
		cycles = append(cycles, cyclesOf(s, w.clients()[n%3], all[:n]...)...)
	}
	w.programmed(t)
	const connections = 42 // a multiple of all numbers of backends
	var running sync.WaitGroup
	for _, c := range cycles {
		running.Go(func() { c.turn(t, connections) })
	}
	running.Wait()
	checkAll(t, cycles)
	for _, c := range cycles {
		hits := traffic.Hits{}
		for _, r := range c.results {
			hits[r.Backend]++
		}
		if err := traffic.ExactRoundRobin(hits, c.backends, connections); err != nil {
			t.Errorf("%s %s: %v", c.protocol, c.to, err)
		}
	}
}

// Changes that are none of a service port's own leave its turn alone.
func TestRoundRobinKeepsItsTurn(t *testing.T) {
	t.Parallel()
	w := newWorld(t, config{})
	a, b, c := w.Local[0], w.RemotePods[0], w.RemotePods[1]
	steady := w.service("steady").to(ready(a, b, c))
	other := w.service("other").to(ready(a, b))
	w.apply(t, steady, other)
	cycles := cyclesOf(steady, w.Client, a, b, c)
	changes := []struct {
		name string
		make func(t *testing.T)
	}{
		{"nothing", func(*testing.T) {}},
		{"another service gets an endpoint", func(t *testing.T) { w.apply(t, other.to(ready(a, b, c))) }},
		{"another service loses all", func(t *testing.T) { w.apply(t, other.to()) }},
		{"another service goes", func(t *testing.T) { w.remove(t, other) }},
		{"a service comes", func(t *testing.T) { w.apply(t, w.service("newcomer").to(ready(a, b))) }},
		{"an endpoint that gets nothing comes", func(t *testing.T) { w.apply(t, steady.to(ready(a, b, c), unready(w.Local[1]))) }},
		{"the service gets a label", func(t *testing.T) {
			steady.Labels = map[string]string{"a": "b"}
			w.apply(t, steady)
		}},
		{"the service gets another port", func(t *testing.T) {
			port("more", traffic.TCP, 443, 8443)(steady.Service)
			w.apply(t, steady.to(ready(a, b, c)))
		}},
		{"the endpoints come once more, in other slices", func(t *testing.T) {
			for _, f := range netns.Families() {
				steady.add(steady.slice("more-"+nameOf(f.String()), f, ready(b, a)))
			}
			w.apply(t, steady)
		}},
		{"and go from the first ones", func(t *testing.T) {
			more := steady.slices[2:]
			w.apply(t, steady.to(ready(c)).add(more...))
		}},
	}
	for _, change := range changes {
		t.Run(change.name, func(t *testing.T) {
			change.make(t)
			turnAll(t, 4, cycles) // one more than a round, to be at another turn each time
			checkAll(t, cycles)
		})
	}
}

// Whatever happens to its endpoints, a service port is exact between two changes.
func TestRoundRobinAfterItsOwnChange(t *testing.T) {
	t.Parallel()
	w := newWorld(t, config{})
	a, b, c, d := w.Local[0], w.RemotePods[0], w.RemotePods[1], w.RemotePods[2]
	s := w.service("web")
	for i, hosts := range [][]netns.Host{{a, b}, {a, b, c}, {b, c}, {b, c, d}, {a, c, d}, {d}, {a, d}, {a, b, c, d}} {
		t.Run(fmt.Sprintf("%d: %d backends", i, len(hosts)), func(t *testing.T) {
			w.apply(t, s.to(ready(hosts...)))
			for _, c := range cyclesOf(s, w.Client, hosts...) {
				c.turn(t, 2*len(hosts)+1)
				if err := c.check(); err != nil {
					t.Error(err)
				}
			}
		})
	}
}
