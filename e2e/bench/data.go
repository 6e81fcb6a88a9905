// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"regexp"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"github.com/nftproxy/nftproxy/e2e/bench/report"
	"github.com/nftproxy/nftproxy/e2e/netns"
)

// data measures what packets pay for the rules: from a pod and from the node itself.
func (r *runner) data(ctx context.Context) error {
	order, err := r.order()
	if err != nil {
		return err
	}
	for _, o := range []origin{
		{r, report.FromPod, func(n *network) *netns.NS { return n.Client.NS }},
		{r, report.FromNode, func(n *network) *netns.NS { return n.Node.NS }},
	} {
		for _, measure := range []func(context.Context, []netip.Addr) error{o.connects, o.rates, o.throughputs, o.packets} {
			if err := measure(ctx, order); err != nil {
				return fmt.Errorf("traffic from %s: %w", o.name, err)
			}
		}
	}
	return nil
}

// turns is how often each measurement of traffic is made. They are many and short, because
// a machine is not equally fast all the time: the targets take turns, so that all of them
// get the good times and the bad ones.
const turns = 8

// origin is a place that traffic comes from.
type origin struct {
	*runner
	name string
	in   func(*network) *netns.NS
}

// target is where traffic goes, and in which network.
type target struct {
	name string
	*network
	addr netip.AddrPort
}

// targets returns them all: a backend in the network without rules, an address in the one with a rule, a backend past the
// rules, and Services.
func (o origin) targets(backend netip.AddrPort, services ...target) []target {
	port := backend.Port()
	if port == 0 {
		port = askPort
	}
	out := []target{{report.Without, &o.site.bare, backend}, {report.OneRule, &o.site.oneRule, netip.AddrPortFrom(oneRuleAddr, port)},
		{report.Direct, &o.site.network, backend}}
	for _, t := range services {
		t.network = &o.site.network
		out = append(out, t)
	}
	return out
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
	var services []target
	for i, name := range []string{report.First, report.Middle, report.Last} {
		services = append(services, target{name: name, addr: netip.AddrPortFrom(order[i*(len(order)-1)/2], askPort)})
	}
	targets := o.targets(netip.AddrPort{}, services...)
	took := map[string][]float64{}
	// One thread for all, which goes from one namespace to the other: so the targets find the same caches.
	err := o.site.Client.Do(func() error {
		for i := range o.plan.Connects {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			for j := range targets {
				t := targets[(i+j)%len(targets)]
				if !t.addr.IsValid() {
					t.addr = netip.AddrPortFrom(o.site.usual(i)[0], askPort)
				}
				if err := unix.Setns(o.in(t.network).Fd(), unix.CLONE_NEWNET); err != nil {
					return err
				}
				d, err := handshake(t.addr)
				if err != nil {
					return err
				}
				took[t.name] = append(took[t.name], float64(d.Nanoseconds())/1000)
			}
		}
		return nil
	})
	for _, t := range targets {
		o.add("connect", o.name+t.name, took[t.name]...)
	}
	return err
}

// inTurn measures each target for a turn, again and again; another one is the first every time.
func (o origin) inTurn(ctx context.Context, targets []target, measure func(target) error) error {
	for i := range turns {
		for j := range targets {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if err := measure(targets[(i+j)%len(targets)]); err != nil {
				return err
			}
		}
	}
	return nil
}

// turn is how long a turn takes.
func (o origin) turn() time.Duration { return window(o.plan) / 20 }

// rateClients connect at once, each to another Service or backend.
const rateClients = 16

func (o origin) rates(ctx context.Context, order []netip.Addr) error {
	return o.inTurn(ctx, o.targets(netip.AddrPort{}, target{name: report.Service}), func(t target) error {
		var n, failed atomic.Int64
		busy, err := cpuTime()
		if err != nil {
			return err
		}
		end := time.Now().Add(o.turn())
		var g errgroup.Group
		for c := range rateClients {
			to := o.site.addresses(c, 1)[0]
			switch t.name {
			case report.Service:
				to = order[c*(len(order)-1)/(rateClients-1)]
			case report.OneRule:
				to = oneRuleAddr
			}
			g.Go(func() error {
				return o.in(t.network).Do(func() error {
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
		return o.addCPU("rate-cpu", t, busy, 1e6, float64(n.Load()))
	})
}

func (o origin) throughputs(ctx context.Context, _ []netip.Addr) error {
	return o.stream(ctx, "throughput", "tcp4", streamPort, make([]byte, 128<<10), 8e-9,
		func(b *backends) int64 { return b.bytes.Load() })
}

func (o origin) packets(ctx context.Context, _ []netip.Addr) error {
	return o.stream(ctx, "packets", "udp4", packetPort, make([]byte, 64), 1,
		func(b *backends) int64 { return b.packets.Load() })
}

// stream sends messages as fast as it can, through one connection to each target, and adds
// what the backend's counter made of them each second, in units. What a turn leaves in the
// sockets' buffers, some milliseconds' worth, counts for the next one.
func (o origin) stream(ctx context.Context, metric, proto string, port int32, message []byte, unit float64, received func(*backends) int64) error {
	conns := map[string]net.Conn{}
	defer func() {
		for _, c := range conns {
			_ = c.Close()
		}
	}()
	targets := o.targets(netip.AddrPortFrom(o.site.RemotePods[0].V4, uint16(port)),
		target{name: report.Service, addr: addr(streamService(), port)})
	for _, t := range targets {
		err := o.in(t.network).Do(func() (err error) {
			conns[t.name], err = net.Dial(proto, t.addr.String())
			return err
		})
		if err != nil {
			delete(conns, t.name)
			return err
		}
	}
	return o.inTurn(ctx, targets, func(t target) error {
		busy, err := cpuTime()
		if err != nil {
			return err
		}
		before, begin := received(t.backends), time.Now()
		for time.Since(begin) < o.turn() {
			for range 16 {
				if _, err := conns[t.name].Write(message); err != nil {
					return err
				}
			}
		}
		amount := float64(received(t.backends)-before) * unit
		o.add(metric, o.name+t.name, amount/time.Since(begin).Seconds())
		if metric != "throughput" {
			return nil
		}
		return o.addCPU("throughput-cpu", t, busy, 1e3, amount)
	})
}

// addCPU adds what this process took since, in units of a part of a second, for each of an amount; nothing if that is none.
func (o origin) addCPU(metric string, t target, since time.Duration, part, amount float64) error {
	busy, err := cpuTime()
	if err == nil && amount > 0 {
		o.add(metric, o.name+t.name, (busy-since).Seconds()*part/amount)
	}
	return err
}

// cpuTime is the processor time of this process so far, which is client and backends; what the kernel does for their packets counts
// as theirs.
func cpuTime() (time.Duration, error) {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0, fmt.Errorf("read the CPU time: %w", err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), nil
}

// fairness counts which backend of a Service gets how many connections: as the proxy spreads them by itself, and by each of
// nftproxy's schedulers. The client has one address.
func (r *runner) fairness(ctx context.Context) error {
	if err := r.spread(ctx, "", webService(0)); err != nil || r.peer.name != report.Nftproxy {
		return err
	}
	for _, name := range report.Schedulers() {
		if err := r.scheduled(ctx, name); err != nil {
			return fmt.Errorf("scheduler %s: %w", name, err)
		}
	}
	return nil
}

// scheduled counts for a scheduler, with a Service that is there only meanwhile.
func (r *runner) scheduled(ctx context.Context, name string) error {
	svc := scheduledService(name)
	if err := r.site.create(ctx, svc, r.site.usual(0)); err != nil {
		return err
	}
	err := r.inPod(func() error {
		for end := time.Now().Add(patience); ; {
			if _, err := ask(addr(svc, askPort), lossPatience); err == nil || ctx.Err() != nil || time.Now().After(end) {
				return err
			}
			if err := sleep(ctx, 10*time.Millisecond); err != nil {
				return err
			}
		}
	})
	if err == nil {
		err = r.spread(ctx, report.Scheduler+name, svc)
	}
	return errors.Join(err, r.site.remove(context.WithoutCancel(ctx), svc))
}

// spread counts which backend of a Service with the usual ones gets how many connections.
func (r *runner) spread(ctx context.Context, target string, svc *corev1.Service) error {
	hits := map[netip.Addr]int{}
	err := r.inPod(func() error {
		for range r.plan.Spread {
			backend, err := ask(addr(svc, askPort), lossPatience)
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
		r.add("spread", target, float64(hits[a]))
	}
	return nil
}
