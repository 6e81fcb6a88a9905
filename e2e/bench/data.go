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
		for range streamRounds {
			for _, measure := range []func(context.Context, []netip.Addr) error{o.rates, o.throughputs, o.packets} {
				if err := measure(ctx, order); err != nil {
					return fmt.Errorf("traffic from %s: %w", from.name, err)
				}
			}
		}
	}
	return nil
}

// streamRounds is how often each measurement of traffic is made, in turn; together they
// take the plan's time.
const streamRounds = 5

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

// targets returns where to go directly, and through a Service if there is a proxy.
func (o origin) targets(direct, service netip.AddrPort) map[string]netip.AddrPort {
	if o.peer.name == report.NoProxy {
		return map[string]netip.AddrPort{report.Direct: direct}
	}
	return map[string]netip.AddrPort{report.Direct: direct, report.Service: service}
}

// rateClients connect at once, each to another Service or backend.
const rateClients = 16

func (o origin) rates(ctx context.Context, order []netip.Addr) error {
	for name := range o.targets(netip.AddrPort{}, netip.AddrPort{}) {
		var n, failed atomic.Int64
		length := window(o.plan) / streamRounds
		end := time.Now().Add(length)
		var g errgroup.Group
		for c := range rateClients {
			to := o.site.addresses(c, 1)[0]
			if name == report.Service {
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
					return ctx.Err()
				})
			})
		}
		if err := g.Wait(); err != nil {
			return err
		}
		o.add("rate", o.name+name, float64(n.Load())/length.Seconds())
		o.add("rate-failed", o.name+name, float64(failed.Load()))
	}
	return nil
}

func (o origin) throughputs(ctx context.Context, _ []netip.Addr) error {
	message := make([]byte, 128<<10)
	return o.stream(ctx, "throughput", "tcp4", streamPort, message, &o.site.backends.bytes, 8e-9)
}

func (o origin) packets(ctx context.Context, _ []netip.Addr) error {
	return o.stream(ctx, "packets", "udp4", packetPort, make([]byte, 64), &o.site.backends.packets, 1)
}

// stream sends messages as fast as it can and adds what the backend's counter made of
// them each second, in units.
func (o origin) stream(ctx context.Context, metric, network string, port int32, message []byte, received *atomic.Int64, unit float64) error {
	direct := netip.AddrPortFrom(o.site.RemotePods[0].V4, uint16(port))
	for name, to := range o.targets(direct, addr(streamService(), port)) {
		var conn net.Conn
		err := o.ns.Do(func() (err error) {
			conn, err = net.Dial(network, to.String())
			return err
		})
		if err != nil {
			return err
		}
		before, begin := received.Load(), time.Now()
		for time.Since(begin) < window(o.plan)/streamRounds && err == nil && ctx.Err() == nil {
			for range 16 {
				if _, err = conn.Write(message); err != nil {
					break
				}
			}
		}
		o.add(metric, o.name+name, float64(received.Load()-before)*unit/time.Since(begin).Seconds())
		_ = conn.Close()
		if err != nil {
			return err
		}
	}
	return ctx.Err()
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
