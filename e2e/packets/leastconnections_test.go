// SPDX-License-Identifier: Apache-2.0

//go:build linux

package packets

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"

	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/traffic"
	"github.com/nftproxy/nftproxy/rules"
)

// openConnections are connections that stay open, by the endpoint that has them.
type openConnections struct {
	t    *testing.T
	w    *world
	to   netip.AddrPort
	list map[netip.AddrPort][]*traffic.Conn
}

// open opens some more.
func (o *openConnections) open(n int) {
	o.t.Helper()
	for range n {
		c, err := traffic.Client{NS: o.w.Client.NS, Timeout: patience}.Open(o.t.Context(), traffic.TCP, o.to)
		if err != nil {
			o.t.Fatal(err)
		}
		o.t.Cleanup(func() { _ = c.Close() })
		r := c.Ask(o.t.Context())
		if r.Outcome != traffic.Answered {
			o.t.Fatal(r)
		}
		o.list[r.Backend] = append(o.list[r.Backend], c)
	}
}

// end ends those of an endpoint, and returns how many there were.
func (o *openConnections) end(at netip.AddrPort) int {
	list := o.list[at]
	for _, c := range list {
		_ = c.Close()
	}
	delete(o.list, at)
	return len(list)
}

// slots returns how many slots each endpoint has in the kernel.
func (o *openConnections) slots() map[netip.AddrPort]int {
	out := map[netip.AddrPort]int{}
	for id, set := range o.w.state(o.t).Tables[rules.IPv4].Sets {
		if id.Kind == rules.Endpoints {
			for _, v := range set {
				out[v.To]++
			}
		}
	}
	return out
}

// counted waits until nftproxy has laid the slots out for just those that are open.
func (o *openConnections) counted(endpoints ...netip.AddrPort) {
	o.t.Helper()
	var list []rules.Endpoint
	for _, a := range slices.SortedFunc(slices.Values(endpoints), netip.AddrPort.Compare) {
		e := rules.Endpoint{Addr: a, Ready: true}
		e.Open = uint32(len(o.list[a]))
		list = append(list, e)
	}
	sp := rules.ServicePort{Name: rules.ServicePortName{Namespace: "test", Name: "web"}, ClusterIP: o.to.Addr(), Port: o.to.Port(),
		Policies: rules.Policies{Scheduler: rules.LeastConnections}}
	objects := rules.Build(sp, list, rules.Config{}.WithDefaults(), rules.Node{Name: "node"})
	want := map[netip.AddrPort]int{}
	for _, a := range endpoints {
		want[a], _ = objects.SlotsOf(rules.ChainID{Role: rules.ChainService, Of: sp.Name}, a)
	}
	eventually(o.t, "slots that follow the open connections", func() error {
		if have := o.slots(); !maps.Equal(have, want) {
			return fmt.Errorf("have %v, want %v", have, want)
		}
		return nil
	})
}

// TestLeastConnections: a rolling update under least-connections, with connections that are really open and counted by nftproxy. Four
// endpoints with 200 connections are replaced in turn, faster than the clients connect again. In the end they are at most a fifth apart. The test
// waits for each count, so that no machine is too slow for it; in turn, the same would leave them a third apart.
func TestLeastConnections(t *testing.T) {
	t.Parallel()
	w := newWorld(t, config{cluster: netns.Config{RemotePods: 5}, args: []string{"--count-period", "20ms"}})
	hosts, spare := slices.Clone(w.RemotePods[:4]), w.RemotePods[4]
	s := w.service("web", scheduler("least-connections"), only(netns.IPv4), tcpOnly).to(ready(hosts...))
	w.apply(t, s)
	at := func(h netns.Host) netip.AddrPort { return netip.AddrPortFrom(h.V4, backendPort) }
	all := func() (list []netip.AddrPort) {
		for _, h := range hosts {
			list = append(list, at(h))
		}
		return list
	}
	o := &openConnections{t, w, s.at(netns.IPv4, servicePort), map[netip.AddrPort][]*traffic.Conn{}}
	const connections, batch = 200, 20
	for range connections / batch {
		o.counted(all()...)
		o.open(batch)
	}
	waiting := 0
	for step := 0; step < len(hosts) || waiting > 0; step++ {
		if step < len(hosts) {
			old := hosts[step]
			hosts[step], spare = spare, old
			w.apply(t, s.to(ready(hosts...)))
			waiting += o.end(at(old))
		}
		o.counted(all()...)
		n := min(batch, waiting)
		o.open(n)
		waiting -= n
	}
	var counts []int
	for _, a := range all() {
		counts = append(counts, len(o.list[a]))
	}
	t.Logf("open connections: %v", counts)
	if mean := connections / len(hosts); 5*(slices.Max(counts)-slices.Min(counts)) > mean {
		t.Errorf("open connections after the update: %v, want at most a fifth of %d apart", counts, mean)
	}
}
