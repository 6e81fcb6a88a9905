// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"regexp"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/nftproxy/nftproxy/e2e/bench/report"
	"github.com/nftproxy/nftproxy/e2e/netns"
)

// data measures what packets pay for the rules: from a pod and from the node itself.
func (r *runner) data(ctx context.Context) error {
	order, err := r.order()
	if err != nil {
		return err
	}
	for _, from := range []struct {
		name string
		*netns.NS
	}{{report.FromPod, r.site.Client.NS}, {report.FromNode, r.site.Node.NS}} {
		o := origin{r, from.name, from.NS}
		if err := o.connects(ctx, order); err != nil {
			return fmt.Errorf("connections from %s: %w", from.name, err)
		}
		for _, measure := range []func(context.Context, []netip.Addr) error{o.rates, o.throughputs, o.packets} {
			if err := measure(ctx, order); err != nil {
				return fmt.Errorf("traffic from %s: %w", from.name, err)
			}
		}
	}
	return nil
}

// turns is how often each measurement of traffic is made; together they take the plan's
// time. They are many and short, because a machine is not equally fast all the time: the
// targets take turns, so that all of them get the good times and the bad ones.
const turns = 20

// origin is a place that traffic comes from.
type origin struct {
	*runner
	name string
	ns   *netns.NS
}

// order returns the ClusterIPs in the order in which packets are compared with them. Only
// for the rules of iptables that matters: kube-proxy writes them in no order.
func (r *runner) order() ([]netip.Addr, error) {
	var out []netip.Addr
	if r.peer.name == report.KubeProxyIptables {
		return r.chainOrder()
	}
	for i := range r.size {
		out = append(out, addr(webService(i), askPort).Addr())
	}
	return out, nil
}

var inChain = regexp.MustCompile(`(?m)^-A KUBE-SERVICES -d ([0-9.]+)/32 .*--dport 8080 .*-j KUBE-SVC-`)

func (r *runner) chainOrder() ([]netip.Addr, error) {
	var text []byte
	err := r.site.Node.Do(func() (err error) {
		text, err = exec.Command("iptables", "-t", "nat", "-S", "KUBE-SERVICES").Output()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list the chain of Services: %w", err)
	}
	probe := addr(probeService(), askPort).Addr()
	var out []netip.Addr
	for _, m := range inChain.FindAllSubmatch(text, -1) {
		if a, err := netip.ParseAddr(string(m[1])); err == nil && a != probe {
			out = append(out, a)
		}
	}
	if len(out) != r.size {
		return nil, fmt.Errorf("the chain of Services has %d of them, want %d", len(out), r.size)
	}
	return out, nil
}

// connects measures handshakes, with all targets in turn.
func (o origin) connects(ctx context.Context, order []netip.Addr) error {
	targets := map[string]netip.AddrPort{}
	names := []string{report.Direct}
	if o.peer.name != report.NoProxy {
		names = append(names, report.First, report.Middle, report.Last)
		for i, name := range names[1:] {
			targets[name] = netip.AddrPortFrom(order[i*(len(order)-1)/2], askPort)
		}
	}
	took := map[string][]float64{}
	err := o.ns.Do(func() error {
		for i := range o.plan.Connects {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			targets[report.Direct] = netip.AddrPortFrom(o.site.usual(i)[0], askPort)
			for j := range names {
				name := names[(i+j)%len(names)]
				d, err := handshake(targets[name])
				if err != nil {
					return err
				}
				took[name] = append(took[name], float64(d.Nanoseconds())/1000)
			}
		}
		return nil
	})
	for _, name := range names {
		o.add("connect", o.name+name, took[name]...)
	}
	return err
}

// target is where traffic goes.
type target struct {
	name string
	addr netip.AddrPort
}

// inTurn calls measure for the backend itself and, if there is a proxy, for its Service, in
// turn; who comes first alternates.
func (o origin) inTurn(ctx context.Context, direct, service netip.AddrPort, measure func(target) error) error {
	targets := []target{{report.Direct, direct}, {report.Service, service}}
	if o.peer.name == report.NoProxy {
		targets = targets[:1]
	}
	for range turns {
		for _, t := range targets {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if err := measure(t); err != nil {
				return err
			}
		}
		slices.Reverse(targets)
	}
	return nil
}

// turn is how long a turn takes.
func (o origin) turn() time.Duration { return window(o.plan) / turns }

// rateClients connect at once, each to another Service or backend.
const rateClients = 16

func (o origin) rates(ctx context.Context, order []netip.Addr) error {
	return o.inTurn(ctx, netip.AddrPort{}, netip.AddrPort{}, func(t target) error {
		var n, failed atomic.Int64
		end := time.Now().Add(o.turn())
		var g errgroup.Group
		for c := range rateClients {
			to := o.site.addresses(c, 1)[0]
			if t.name == report.Service {
				to = order[c*(len(order)-1)/(rateClients-1)]
			}
			g.Go(func() error {
				return o.ns.Do(func() error {
					for time.Now().Before(end) && ctx.Err() == nil {
						if _, err := handshake(netip.AddrPortFrom(to, askPort)); err != nil {
							failed.Add(1)
						} else if time.Now().Before(end) {
							n.Add(1)
						}
					}
					return nil
				})
			})
		}
		if err := g.Wait(); err != nil {
			return err
		}
		o.add("rate", o.name+t.name, float64(n.Load())/o.turn().Seconds())
		o.add("rate-failed", o.name+t.name, float64(failed.Load()))
		return nil
	})
}

func (o origin) throughputs(ctx context.Context, _ []netip.Addr) error {
	return o.stream(ctx, "throughput", "tcp4", streamPort, make([]byte, 128<<10), &o.site.backends.bytes, 8e-9)
}

func (o origin) packets(ctx context.Context, _ []netip.Addr) error {
	return o.stream(ctx, "packets", "udp4", packetPort, make([]byte, 64), &o.site.backends.packets, 1)
}

// stream sends messages as fast as it can, through one connection to each target, and adds
// what the backend's counter made of them each second, in units. What one turn leaves in
// the sockets' buffers counts for the next: some milliseconds' worth, to either's advantage.
func (o origin) stream(ctx context.Context, metric, network string, port int32, message []byte, received *atomic.Int64, unit float64) error {
	conns := map[string]net.Conn{}
	defer func() {
		for _, c := range conns {
			_ = c.Close()
		}
	}()
	direct := netip.AddrPortFrom(o.site.RemotePods[0].V4, uint16(port))
	return o.inTurn(ctx, direct, addr(streamService(), port), func(t target) error {
		if conns[t.name] == nil {
			conn, err := o.dial(network, t.addr)
			if err != nil {
				return err
			}
			conns[t.name] = conn
		}
		before, begin := received.Load(), time.Now()
		for time.Since(begin) < o.turn() {
			for range 16 {
				if _, err := conns[t.name].Write(message); err != nil {
					return err
				}
			}
		}
		o.add(metric, o.name+t.name, float64(received.Load()-before)*unit/time.Since(begin).Seconds())
		return nil
	})
}

func (o origin) dial(network string, to netip.AddrPort) (conn net.Conn, err error) {
	err = o.ns.Do(func() error {
		conn, err = net.Dial(network, to.String())
		return err
	})
	return conn, err
}

// fairness counts which backend of the first Service gets how many connections.
func (r *runner) fairness(ctx context.Context) error {
	hits := map[netip.Addr]int{}
	err := r.inPod(func() error {
		for range r.plan.Spread {
			backend, err := ask(addr(webService(0), askPort), lossPatience)
			if err != nil {
				return err
			}
			hits[backend]++
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, a := range r.site.usual(0) {
		r.add("spread", "", float64(hits[a]))
	}
	return nil
}
