// SPDX-License-Identifier: Apache-2.0

//go:build linux

package packets

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	corev1 "k8s.io/api/core/v1"

	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/traffic"
	"github.com/nftproxy/nftproxy/rules"
)

// Session affinity goes above each scheduler and its weights: a client stays with its endpoint at all frontends, leaves it when it gets
// the weight 0, and stays with the next one when the first has its weight again.
func TestAffinityAboveSchedulers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, config{args: []string{"--node-ip", "172.18.0.2,fd00:172:18::2"}})
	heavy, light := w.Local[0], w.RemotePods[0]
	weights := func(of ...string) map[string]string { return map[string]string{"0": of[0], "1": of[1]} }
	var services []*svc
	for _, name := range rules.SchedulerNames() {
		services = append(services, w.full(name, scheduler(name), sticky(10800)))
	}
	set := func(of ...string) {
		for _, s := range services {
			s.weighing(weights(of...), heavy, light)
		}
		w.apply(t, services...)
	}
	// where returns the endpoints that all clients of a service are with.
	where := func(s *svc, p traffic.Protocol, f netns.Family) map[string]netip.AddrPort {
		at := map[string]netip.AddrPort{}
		for _, from := range w.clients() {
			var to []netip.AddrPort
			for _, fe := range []frontend{clusterIP, nodePort, loadBalancer} {
				to = append(to, w.address(s, fe, p, f))
			}
			at[from.Name()] = backendOf(t, from, p, to...)
		}
		return at
	}
	check := func(what string, host netns.Host) {
		t.Helper()
		for _, s := range services {
			for _, p := range traffic.Protocols() {
				for _, f := range netns.Families() {
					for from, at := range where(s, p, f) {
						if host.NS != nil && at.Addr() != host.Addr(f) {
							t.Errorf("%s, %s %s %s: the client %s is with %s, want %s", what, s.Name, p, f, from, at, host.Addr(f))
						}
					}
				}
			}
		}
	}
	set("3", "1")
	check("at first", netns.Host{}) // with one each, whichever it is
	set("0", "1")
	check("the weight 0", light)
	set("3", "1")
	check("the weight is back", light)
}

// tcpOnly gives a service its TCP port alone.
func tcpOnly(s *corev1.Service) { port("tcp", traffic.TCP, servicePort, backendPort)(s) }

// turns is a service port of a scheduler, watched over restarts.
type turns struct {
	cycle
	scheduler rules.Scheduler
	period    int // after so many connections the same endpoints come in the same order; 0: never
}

// turn makes n connections from ports that can be used again.
func (c *turns) turn(t *testing.T, n int) {
	for range n {
		from := c.client
		from.Source = netip.AddrPortFrom(netip.Addr{}, from.NS.NextPort())
		c.results = append(c.results, from.Connect(t.Context(), c.protocol, c.to))
	}
}

// check checks that each connection was answered, and in its turn.
func (c *turns) check() error {
	for i, r := range c.results {
		if r.Outcome != traffic.Answered {
			return fmt.Errorf("connection %d: %s", i, r)
		}
		if before := i - c.period; c.period > 0 && before >= 0 && r.Backend != c.results[before].Backend {
			return fmt.Errorf("connection %d: answered by %s, want %s, whose turn it was: %s", i, r.Backend, c.results[before].Backend, order(c.results))
		}
	}
	return nil
}

// again checks that who is hashed is where it was: from the ports of the first connections, which the node knows no more.
func (c *turns) again(t *testing.T) error {
	for _, r := range c.results[:4] {
		again := traffic.Client{NS: c.client.NS, Source: r.Local}.Connect(t.Context(), c.protocol, c.to)
		if again.Outcome != traffic.Answered || again.Backend != r.Backend {
			return fmt.Errorf("from %s: %s, want %s as before", r.Local, again, r.Backend)
		}
	}
	return nil
}

// turnsOf returns the turns of a scheduler's service with weights that add up to nine.
func turnsOf(w *world, s rules.Scheduler, at *svc) (list []*turns) {
	for _, p := range traffic.Protocols() {
		for _, f := range netns.Families() {
			c := &turns{scheduler: s, cycle: cycle{client: traffic.Client{NS: w.Client.NS}, protocol: p, to: at.at(f, servicePort)}}
			switch {
			case s == rules.RoundRobin:
				c.period = 9
			case s.Counts() && p != traffic.TCP:
				continue
			case s.Counts():
				c.period = 64
			}
			list = append(list, c)
		}
	}
	return list
}

// A restart, clean or not, adopts the slots of each scheduler: nothing is written, no turn is lost, and who is hashed stays where it was.
func TestSchedulersOverRestarts(t *testing.T) {
	t.Parallel()
	w := newWorld(t, config{args: []string{"--count-period", "1h"}}) // not while one of the connections is open
	hosts := []netns.Host{w.Local[0], w.RemotePods[0], w.RemotePods[1]}
	var all []*turns
	for _, s := range rules.Schedulers() {
		options := []option{scheduler(s.String())}
		if s.Counts() {
			options = append(options, tcpOnly) // other flows stay open for a while, and change the shares
		}
		at := w.service(s.String(), options...).weighing(map[string]string{"0": "5", "1": "3", "2": "1"}, hosts...)
		w.put(t, at.objects()...)
		all = append(all, turnsOf(w, s, at)...)
	}
	w.programmed(t)
	connect := func() {
		for _, c := range all {
			c.turn(t, c.period/4+4)
		}
	}
	before := withoutBarrier(w.run(t, "dump", "--kernel"))
	connect()
	for _, end := range []func(){func() { w.stop(t) }, func() { w.nftproxy.Kill() }} {
		end()
		connect() // while nothing runs
		w.start(t)
		if log := w.nftproxy.Log(); !strings.Contains(log, "changes=0 ") {
			t.Errorf("the start wrote something:\n%s", log)
		}
		connect()
	}
	if after := withoutBarrier(w.run(t, "dump", "--kernel")); after != before {
		t.Errorf("the rules changed (-before +after):\n%s", cmp.Diff(before, after))
	}
	if err := w.Node.Do(func() error { return netlink.ConntrackTableFlush(netlink.ConntrackTable) }); err != nil {
		t.Fatal(err)
	}
	for _, c := range all {
		err := c.check()
		if err == nil && (c.scheduler == rules.SourceHash || c.scheduler == rules.ClientHash || c.scheduler == rules.Maglev) {
			err = c.again(t)
		}
		if err != nil {
			t.Errorf("%s, %s %s: %v", c.scheduler, c.protocol, c.to, err)
		}
	}
}

// The shares of least-connections stay over a restart where they are uneven: what is open is counted before anything is written.
func TestOpenConnectionsOverRestart(t *testing.T) {
	t.Parallel()
	w := newWorld(t, config{args: []string{"--count-period", "20ms"}})
	a, b := w.Local[0], w.RemotePods[0]
	s := w.service("web", scheduler("least-connections"), tcpOnly).to(ready(a))
	w.apply(t, s)
	for range 12 {
		for _, f := range netns.Families() {
			establish(t, w.Client, traffic.TCP, s.at(f, servicePort)).ask(t)
		}
	}
	w.apply(t, s.to(ready(a, b)))
	// slots returns how many slots the endpoint with the open connections has, of all.
	slots := func() (list []int) {
		for f, table := range w.state(t).Tables {
			mine, all := 0, 0
			for id, set := range table.Sets {
				if id.Kind != rules.Endpoints {
					continue
				}
				for _, v := range set {
					all++
					if host := netns.Families()[f]; v.To.Addr() == a.Addr(host) {
						mine++
					}
				}
			}
			list = append(list, mine, all)
		}
		return list
	}
	had := []int{26, 64, 26, 64} // 12 open, and of what comes next so many that both come to the same
	eventually(t, "fewer slots for who has open connections", func() error {
		if now := slots(); !slices.Equal(now, had) {
			return fmt.Errorf("it has %v", now)
		}
		return nil
	})
	for _, end := range []func(){func() { w.stop(t) }, func() { w.nftproxy.Kill() }} {
		end()
		w.start(t)
		if log := w.nftproxy.Log(); !strings.Contains(log, "changes=0 ") {
			t.Errorf("the start wrote something:\n%s", log)
		}
		if now := slots(); !slices.Equal(now, had) {
			t.Errorf("the slots are %v after the restart, want %v as before", now, had)
		}
	}
}
