// SPDX-License-Identifier: Apache-2.0

//go:build linux

package packets

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/traffic"
	"github.com/nftproxy/nftproxy/rules"
)

// removals is how often the endpoints of a test change. More may find more: -count.
const removals = 7

// stage is a time in which the endpoints are the same, or change.
type stage struct {
	gone     netns.Host // that is no endpoint, or ceases to be one; none: the zero Host
	changing bool
}

// isGone says whether a backend is the host that is no endpoint.
func (s *stage) isGone(backend netip.AddrPort) bool {
	return s.gone.NS != nil && (backend.Addr() == s.gone.V4 || backend.Addr() == s.gone.V6)
}

// stickyClient connects all the time, one connection after the other.
type stickyClient struct {
	from  netns.Host
	p     traffic.Protocol
	to    []netip.AddrPort // in turns: all lead to one endpoint
	stage *atomic.Pointer[stage]
	with  netip.AddrPort // the endpoint that it is with
	moves int
	made  int
}

func (c *stickyClient) String() string {
	return fmt.Sprintf("%s to %s %s", c.from.Name(), c.p, c.to[0])
}

// run connects until ctx ends or something is wrong.
func (c *stickyClient) run(ctx context.Context) error {
	client := traffic.Client{NS: c.from.NS, Timeout: patience}
	for ; ctx.Err() == nil; c.made++ {
		before := c.stage.Load()
		r := client.Connect(context.WithoutCancel(ctx), c.p, c.to[c.made%len(c.to)])
		after := c.stage.Load()
		stable := before == after && !after.changing
		switch {
		case r.Outcome != traffic.Answered && stable:
			return fmt.Errorf("%s: %s", c, r)
		case r.Outcome != traffic.Answered: // its endpoint may just have left
			continue
		case stable && after.isGone(r.Backend):
			return fmt.Errorf("%s: %s answered, which is no endpoint", c, r.Backend)
		case c.with == r.Backend:
			continue
		case c.with.IsValid() && !before.isGone(c.with) && !after.isGone(c.with):
			return fmt.Errorf("%s: %s answered, want %s as before", c, r.Backend, c.with)
		case c.with.IsValid():
			c.moves++
		}
		c.with = r.Backend
	}
	return nil
}

// stickyClients are clients of everything that a service has, but for those whose connections another policy decides.
func (w *world) stickyClients(s *svc, from []netns.Host, frontends []frontend, now *atomic.Pointer[stage]) []*stickyClient {
	var out []*stickyClient
	for _, h := range from {
		for _, p := range traffic.Protocols() {
			for _, f := range netns.Families() {
				c := &stickyClient{from: h, p: p, stage: now}
				for _, fe := range frontends {
					c.to = append(c.to, w.address(s, fe, p, f))
				}
				out = append(out, c)
			}
		}
	}
	return out
}

// TestAffinityWhileEndpointsChange: from the moment that an endpoint's removal is programmed no new connection
// goes there, however many clients connect all the time. Its clients move, once; nobody else does.
func TestAffinityWhileEndpointsChange(t *testing.T) {
	t.Parallel()
	w := newWorld(t, config{args: []string{"--node-ip", "172.18.0.2,fd00:172:18::2"}})
	hosts := []netns.Host{w.Local[0], w.RemotePods[0], w.Local[1], w.RemotePods[1]}
	cluster, local := w.full("cluster", sticky(10800)), w.full("local", sticky(10800), externalLocal)
	set := func(s stage) {
		var list []netns.Host
		for _, h := range hosts {
			if h != s.gone {
				list = append(list, h)
			}
		}
		w.apply(t, cluster.to(ready(list...)), local.to(ready(list...)))
	}
	var now atomic.Pointer[stage]
	now.Store(&stage{})
	set(*now.Load())
	all := []frontend{clusterIP, nodePort, loadBalancer, externalIP}
	clients := w.stickyClients(cluster, []netns.Host{w.Client, w.Node, w.Outside, w.Local[0]}, all, &now)
	clients = append(clients, w.stickyClients(local, []netns.Host{w.Client, w.Node}, all, &now)...)
	clients = append(clients, w.stickyClients(local, []netns.Host{w.Outside}, all[1:], &now)...)

	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	for _, c := range clients {
		running.Go(func() {
			if err := c.run(ctx); err != nil {
				t.Error(err)
				stop()
			}
		})
	}
	pause := func() {
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond): // for new connections, to wait for nothing
		}
	}
	for i := range removals {
		gone := hosts[i%len(hosts)]
		for _, s := range []stage{{gone: gone}, {}} {
			now.Store(&stage{gone: gone, changing: true})
			set(s)
			now.Store(&s)
			pause()
		}
		if ctx.Err() != nil {
			break
		}
	}
	stop()
	running.Wait()
	moves, made := 0, 0
	for _, c := range clients {
		moves += c.moves
		made += c.made
	}
	if moves == 0 && !t.Failed() {
		t.Error("no client was ever at an endpoint that left")
	}
	t.Logf("%d connections of %d clients, which moved %d times", made, len(clients), moves)
}

// TestAffinityOfManyClients: an endpoint's removal takes no longer because many are remembered with it.
func TestAffinityOfManyClients(t *testing.T) {
	t.Parallel()
	const many = 100000
	w := newWorld(t, config{args: []string{"--own-tables=never"}})
	a, b := w.Local[0], w.RemotePods[0]
	s := w.service("many", sticky(10800)).to(ready(a))
	w.apply(t, s)
	k := w.kernel(t)
	for _, f := range netns.Families() {
		op := rules.Op{Kind: rules.AddElements, Family: rules.FamilyOf(a.Addr(f)), Set: rules.SetID{Kind: rules.Affinity, Of: "/test/many/tcp"}}
		for i := range many {
			client := netip.AddrFrom4([4]byte{198, 18 + byte(i>>16), byte(i >> 8), byte(i)})
			if f == netns.IPv6 {
				client = netip.AddrFrom16([16]byte{0xfd, 0x98, 13: byte(i >> 16), 14: byte(i >> 8), 15: byte(i)})
			}
			op.Elements = append(op.Elements, rules.Element{Key: rules.Key{Addr: client},
				Value: rules.Value{To: netip.AddrPortFrom(a.Addr(f), backendPort)}})
		}
		tx := rules.Tx{Name: rules.DefaultTable}
		tx.Add(op)
		if err := k.Apply(tx); err != nil {
			t.Fatal(err)
		}
		for _, from := range w.clients() {
			backendOf(t, from, traffic.TCP, s.at(f, servicePort))
		}
	}
	w.apply(t, s.to(ready(b)))
	for _, f := range netns.Families() {
		for _, from := range w.clients() {
			if now := backendOf(t, from, traffic.TCP, s.at(f, servicePort)); now.Addr() != b.Addr(f) {
				t.Errorf("%s from %s: %s answered, which is no endpoint", f, from.Name(), now)
			}
		}
	}
}

// TestAffinityInAFullMap: the room of a client that is forgotten is free again.
func TestAffinityInAFullMap(t *testing.T) {
	t.Parallel()
	w := newWorld(t, config{args: []string{"--affinity-size", "1"}})
	hosts := []netns.Host{w.Local[0], w.RemotePods[0]}
	s := w.service("small", sticky(10800)).to(ready(hosts...))
	w.apply(t, s)
	for _, f := range netns.Families() {
		client, to := traffic.Client{NS: w.Client.NS, Timeout: patience}, s.at(f, servicePort)
		for i := range 3 {
			w.apply(t, s.to(ready(hosts[i%2])))
			if r := client.Connect(t.Context(), traffic.TCP, to); r.Outcome != traffic.Answered {
				t.Fatal(r)
			}
			w.apply(t, s.to(ready(hosts...)))
			eventually(t, "the client being remembered", func() error { // the kernel makes room once a second
				first := client.Connect(t.Context(), traffic.TCP, to)
				if second := client.Connect(t.Context(), traffic.TCP, to); second.Outcome != traffic.Answered || second.Backend != first.Backend {
					return fmt.Errorf("%s, then %s", first, second)
				}
				return nil
			})
		}
	}
}

// TestAffinityToPorts: the same address with another port is another endpoint.
func TestAffinityToPorts(t *testing.T) {
	t.Parallel()
	ports := []uint16{backendPort, backendPort + 1, backendPort ^ 1<<8}
	w := newWorld(t, config{ports: ports[1:]})
	s := w.service("ports", sticky(10800))
	at := func(ports ...uint16) *svc {
		s.slices = nil
		for _, f := range netns.Families() {
			for _, port := range ports {
				es := s.slice(fmt.Sprintf("%s-%d", nameOf(f.String()), port), f, ready(w.Local[0]))
				for i := range es.Ports {
					es.Ports[i].Port = new(int32(port))
				}
				s.add(es)
			}
		}
		return s
	}
	old := s
	w.apply(t, at(ports...))
	clients := []netns.Host{w.Client, w.Node, w.Outside}
	each(t, func(t *testing.T, p traffic.Protocol, f netns.Family) {
		used := map[netip.AddrPort]bool{}
		for _, from := range clients {
			used[backendOf(t, from, p, s.at(f, servicePort))] = true
		}
		if len(used) != len(ports) {
			t.Errorf("clients went to %v, want %d endpoints", used, len(ports))
		}
	})
	before := map[string]netip.AddrPort{}
	key := func(from netns.Host, p traffic.Protocol, f netns.Family) string { return fmt.Sprint(from.Name(), p, f) }
	each(t, func(t *testing.T, p traffic.Protocol, f netns.Family) {
		for _, from := range clients {
			before[key(from, p, f)] = backendOf(t, from, p, s.at(f, servicePort))
		}
	})
	gone := old.slices
	w.apply(t, at(ports[1:]...))
	for _, es := range gone {
		if *es.Ports[0].Port == int32(backendPort) {
			if err := w.manifests.Delete(es); err != nil {
				t.Fatal(err)
			}
		}
	}
	w.programmed(t)
	each(t, func(t *testing.T, p traffic.Protocol, f netns.Family) {
		for _, from := range clients {
			now, was := backendOf(t, from, p, s.at(f, servicePort)), before[key(from, p, f)]
			if now.Port() == backendPort || was.Port() != backendPort && now != was {
				t.Errorf("%s from %s: %s answered, want %s if it is there", p, from.Name(), now, was)
			}
		}
	})
}

// TestAffinityWithoutChecksum: the rules for clients that are new, known, and known with an endpoint that is gone
// leave a datagram alone that has no checksum.
func TestAffinityWithoutChecksum(t *testing.T) {
	t.Parallel()
	w := newWorld(t, config{})
	s := w.service("web", sticky(10800)).to(ready(w.Local[0]))
	w.apply(t, s)
	ask := func(from netns.Host, want netns.Host) {
		t.Helper()
		conn, err := (traffic.Client{NS: from.NS, Timeout: patience}).Open(t.Context(), traffic.UDP, s.at(netns.IPv4, servicePort))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if err := conn.WithoutChecksums(); err != nil {
			t.Fatal(err)
		}
		if r := conn.Ask(t.Context()); r.Outcome != traffic.Answered || r.Backend.Addr() != want.V4 {
			t.Errorf("from %s: %s, want %s", from.Name(), r, want.V4)
		}
	}
	for _, from := range w.clients() {
		ask(from, w.Local[0])
		ask(from, w.Local[0])
	}
	w.apply(t, s.to(ready(w.RemotePods[0])))
	for _, from := range w.clients() {
		ask(from, w.RemotePods[0])
		ask(from, w.RemotePods[0])
	}
}
