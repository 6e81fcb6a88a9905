// SPDX-License-Identifier: Apache-2.0

//go:build linux

package packets

import (
	"net"
	"net/netip"
	"sync"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/traffic"
)

// silentPod is an address of a pod that nobody has: packets to it are lost in silence, as to one whose
// node has died. It stands on the node of a host.
func (w *world) silentPod(t *testing.T, on netns.Host, cidr4, cidr6 string) netns.Host {
	t.Helper()
	handle, err := w.Node.Netlink()
	if err != nil {
		t.Fatal(err)
	}
	defer handle.Close()
	pod := netns.Host{NS: on.NS}
	for _, f := range []struct {
		cidr string
		addr *netip.Addr
		via  netip.Addr
	}{{cidr4, &pod.V4, w.Remote.V4}, {cidr6, &pod.V6, w.Remote.V6}} {
		b := netip.MustParsePrefix(f.cidr).Addr().AsSlice()
		b[len(b)-1] = 240
		*f.addr, _ = netip.AddrFromSlice(b)
		to := &net.IPNet{IP: b, Mask: net.CIDRMask(8*len(b), 8*len(b))}
		if err := handle.RouteReplace(&netlink.Route{Dst: to, Gw: f.via.AsSlice()}); err != nil { // where nobody forwards it
			t.Fatal(err)
		}
	}
	return pod
}

// Clients that wait for an answer of an endpoint that is dead come to another one, or hear that there is
// none, once it is gone or not ready: at the next SYN, INIT or datagram of the same socket.
func TestClientsOfADeadEndpoint(t *testing.T) {
	t.Parallel()
	w := newWorld(t, config{args: []string{"--node-ip", "172.18.0.2,fd00:172:18::2"}})
	a, b := w.Local[0], w.Local[1]
	remote, local := w.silentPod(t, w.Remote, netns.RemoteCIDR4, netns.RemoteCIDR6), w.silentPod(t, w.Local[0], netns.PodCIDR4, netns.PodCIDR6)
	for _, row := range []struct {
		name   string
		option option
		dead   netns.Host
		after  []endpoint
		want   expected
	}{
		{"replaced", clusterWide, remote, ready(a), spread(a)},
		{"not ready", clusterWide, remote, append(unready(remote), ready(a, b)...), spread(a, b)},
		{"ending", clusterWide, remote, append(ending(remote), ready(b)...), spread(b)},
		{"none left", clusterWide, remote, nil, refused()},
		{"policy Local", externalLocal, local, ready(b), spread(b)},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := w.applied(t, w.full("dead-"+nameOf(row.name), row.option).to(ready(row.dead)))
			var tcp []way
			var others []*established
			for _, fe := range append([]frontend{clusterIP}, external...) {
				for _, f := range netns.Families() {
					for _, from := range w.clients() {
						tcp = append(tcp, way{from, w.address(s, fe, traffic.TCP, f)})
						for _, p := range datagrams() {
							others = append(others, establish(t, from, p, w.address(s, fe, p, f)))
						}
					}
				}
			}
			askAll(t, others)
			results := w.dialAll(t, tcp)
			w.apply(t, s.to(row.after))
			for range tcp {
				if err := row.want.oneOf(<-results); err != nil {
					t.Errorf("TCP: %v", err)
				}
			}
			for _, e := range others {
				wantServed(t, e, row.want)
			}
		})
	}
}

// askAll asks on all sockets at once. None hears an answer.
func askAll(t *testing.T, list []*established) {
	t.Helper()
	var wg sync.WaitGroup
	for _, e := range list {
		wg.Go(func() {
			if r := e.askSoon(t); r.Outcome != traffic.TimedOut {
				t.Errorf("%s: before: %s, want timed out", e.name, r)
			}
		})
	}
	wg.Wait()
}

// Only connections without an answer are freed: those that are established stay while endpoints go and come.
func TestConnectionsToADyingEndpointStay(t *testing.T) {
	t.Parallel()
	w := newWorld(t, config{})
	a, b := w.Local[0], w.RemotePods[0]
	s := w.applied(t, w.service("web").to(ready(a)))
	conns := w.flows(t, s, []traffic.Protocol{traffic.TCP, traffic.SCTP})
	dead := w.silentPod(t, w.Remote, netns.RemoteCIDR4, netns.RemoteCIDR6)
	other := w.applied(t, w.service("other").to(ready(dead)))
	for _, e := range conns {
		e.ask(t)
	}
	for _, has := range [][]endpoint{append(unready(a), ready(b)...), unready(a), ready(a, b), append(ending(a), ready(b)...)} {
		w.apply(t, s.to(has))
		// A client of another service that waits is served after that, so the cleaners have been here.
		waiting := w.flows(t, other, datagrams())
		askAll(t, waiting)
		results := w.dial(t, other, w.clients()...)
		w.apply(t, other.to(ready(b)))
		results.want(t, b)
		for _, e := range waiting {
			wantServed(t, e, spread(b))
		}
		w.apply(t, other.to(ready(dead)))
		for _, e := range conns {
			if e.ask(t); e.err != nil {
				t.Errorf("with %d endpoints: %v", len(has), e.err)
			}
		}
	}
}
