// SPDX-License-Identifier: Apache-2.0

//go:build linux

package scale

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// large is the cluster that changes are measured in.
var large = size{10000, 10}

// BenchmarkLoad programs a whole cluster into an empty kernel.
func BenchmarkLoad(b *testing.B) {
	for _, s := range []size{{1000, 10}, large, {30000, 10}, {45000, 1}, {5000, 50}} {
		b.Run(s.String(), func(b *testing.B) {
			services, list := s.objects()
			var loads, floors time.Duration
			for b.Loop() {
				n := newNode(b)
				n.start()
				start := time.Now()
				n.ReplaceServices(services)
				n.ReplaceEndpointSlices(list)
				n.synced()
				loads += time.Since(start)
				b.StopTimer()
				have := n.read()
				n.close() // and its watch: the kernel would work for that, too
				floors += floor(b, have)
				b.StartTimer()
			}
			b.ReportMetric(float64(loads.Milliseconds())/float64(b.N), "load-ms")
			b.ReportMetric(float64(floors.Milliseconds())/float64(b.N), "floor-ms")
			b.ReportMetric(float64(loads)/float64(floors), "load/floor")
		})
	}
}

// BenchmarkChange changes one service of many, from the event to the commit.
func BenchmarkChange(b *testing.B) {
	for _, s := range []size{large, {45000, 1}} {
		n := newNode(b)
		n.load(s)
		n.UpdateService(sticky(stickyService))
		n.transaction()
		// Each changes a service in one way, or, if back, undoes that.
		for _, c := range []struct {
			name   string
			change func(i int, back bool)
		}{
			{"endpoint replaced", func(i int, back bool) {
				n.replaceEndpoint(i, s, back)
			}},
			{"endpoint more or less", func(i int, back bool) {
				more := 1
				if back {
					more = 0
				}
				n.UpdateEndpointSlice(endpointSlice(i, 0, s.endpoints+more))
			}},
			{"sticky service's endpoint replaced", func(i int, back bool) {
				n.replaceEndpoint(stickyService, s, back)
			}},
			{"service removed or added", func(i int, back bool) {
				if back {
					n.UpdateService(service(i))
				} else {
					n.DeleteService(service(i).Namespace, service(i).Name)
				}
			}},
		} {
			b.Run(s.String()+"/"+c.name, func(b *testing.B) {
				var all []time.Duration
				for i := 0; b.Loop(); i++ {
					start := time.Now()
					c.change(i/2%s.services, i%2 == 1)
					n.transaction()
					all = append(all, time.Since(start))
				}
				report(b, all)
			})
		}
		n.close()
	}
}

// stickyService is the one that has session affinity while services change.
const stickyService = 4321

// replaceEndpoint replaces the last of a service's endpoints.
func (n *node) replaceEndpoint(i int, s size, back bool) {
	es := endpointSlice(i, 0, s.endpoints)
	if !back {
		es.Endpoints[s.endpoints-1] = endpointSlice(i, s.endpoints, s.endpoints+1).Endpoints[0]
	}
	n.UpdateEndpointSlice(es)
}

func report(b *testing.B, all []time.Duration) {
	slices.Sort(all)
	b.ReportMetric(float64(all[len(all)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(all[len(all)*99/100].Microseconds())/1000, "p99-ms")
}

// BenchmarkBurst changes 1,000 services at once.
func BenchmarkBurst(b *testing.B) {
	const many = 1000
	n := newNode(b)
	n.load(large)
	var all []time.Duration
	transactions := 0
	for i := 0; b.Loop(); i++ {
		back := i%2 == 1
		start := time.Now()
		for j := range many {
			n.replaceEndpoint(j, large, back)
		}
		for changed := map[uint32]struct{}{}; len(changed) < many; transactions++ {
			tx := n.transaction()
			for _, op := range tx.Ops() {
				for i := range op.Elements {
					changed[op.Elements[i].Key.ID] = struct{}{}
				}
			}
		}
		all = append(all, time.Since(start))
	}
	report(b, all)
	b.ReportMetric(float64(transactions)/float64(b.N), "transactions")
	b.StopTimer()
	n.close()
}

// BenchmarkRestart starts a proxier where the kernel holds everything already.
func BenchmarkRestart(b *testing.B) {
	n := newNode(b)
	n.load(large)
	services, list := large.objects()
	for b.Loop() {
		n.stop()
		n.start()
		n.ReplaceServices(services)
		n.ReplaceEndpointSlices(list)
		n.synced()
		select {
		case tx := <-n.kernel.applied:
			b.Fatalf("%d operations were written", tx.Len())
		default:
		}
	}
	b.StopTimer()
	n.close()
}

// BenchmarkConnect compares new connections through a service in the middle of
// many, and through one with session affinity that knows the client, with connections straight to the backends,
// in turn: an operation is one of each.
func BenchmarkConnect(b *testing.B) {
	for _, s := range []size{{100, 10}, large} {
		b.Run(s.String(), func(b *testing.B) {
			c := newCluster(b, s.endpoints)
			services, list := s.objects()
			middle := s.services / 2
			services[middle+1] = sticky(middle + 1)
			for i, pod := range c.RemotePods {
				list[middle].Endpoints[i].Addresses = []string{pod.V4.String()}
				list[middle+1].Endpoints[i].Addresses = []string{pod.V4.String()}
			}
			c.node.start()
			c.node.ReplaceServices(services)
			c.node.ReplaceEndpointSlices(list)
			c.node.synced()
			through := netip.AddrPortFrom(address(96, middle), 80)
			throughSticky := netip.AddrPortFrom(address(96, middle+1), 80)
			var service, sticky, direct []time.Duration
			err := c.Client.Do(func() error {
				for i := 0; b.Loop(); i++ {
					pod := c.RemotePods[i%len(c.RemotePods)]
					took, err := connect(through)
					if err != nil {
						return err
					}
					service = append(service, took)
					if took, err = connect(throughSticky); err != nil {
						return err
					}
					sticky = append(sticky, took)
					if took, err = connect(netip.AddrPortFrom(pod.V4, backendPort)); err != nil {
						return err
					}
					direct = append(direct, took)
				}
				return nil
			})
			if err != nil {
				b.Fatal(err)
			}
			p50 := func(all []time.Duration) float64 {
				slices.Sort(all)
				return float64(all[len(all)/2].Nanoseconds()) / 1000
			}
			b.ReportMetric(p50(service), "service-p50-us")
			b.ReportMetric(p50(direct), "direct-p50-us")
			b.ReportMetric(p50(service)/p50(direct), "service/direct")
			b.ReportMetric(p50(sticky)/p50(direct), "sticky/direct")
		})
	}
}

// connect makes a TCP connection and returns how long the handshake took.
func connect(to netip.AddrPort) (time.Duration, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	// Closed by a reset, so that no port stays in use.
	if err := unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}); err != nil {
		return 0, err
	}
	start := time.Now()
	if err := unix.Connect(fd, &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}); err != nil {
		return 0, fmt.Errorf("connect to %s: %w", to, err)
	}
	return time.Since(start), nil
}

// BenchmarkRolling replaces endpoints at an even pace, as a rolling update does, and
// reports how far behind the kernel is and what part of a CPU that takes.
func BenchmarkRolling(b *testing.B) {
	const perSecond, seconds = 333, 20
	n := newNode(b)
	n.commitRate = 0 // as it is by default
	n.load(large)
	for i := 0; b.Loop(); i++ {
		var begun, committed []time.Time
		busy := cpuTime(b)
		start := time.Now()
		tick := time.NewTicker(time.Second / perSecond)
		for j := 0; time.Since(start) < seconds*time.Second; {
			select {
			case <-tick.C:
				begun = append(begun, time.Now())
				n.replaceEndpoint(j%large.services, large, i%2 == 1)
				j++
			case <-n.kernel.applied:
				committed = append(committed, time.Now())
			}
		}
		tick.Stop()
		committed = append(committed, time.Now(), time.Now())
		var behind []time.Duration
		next := 0
		for _, t := range begun[:len(begun)-perSecond] { // the commit after the one that may be going on
			for committed[next].Before(t) {
				next++
			}
			behind = append(behind, committed[next].Sub(t))
		}
		report(b, behind)
		b.ReportMetric(float64(behind[len(behind)-1].Microseconds())/1000, "max-ms")
		b.ReportMetric(float64(len(committed))/seconds, "commits/s")
		b.ReportMetric(float64(cpuTime(b)-busy)/float64(time.Since(start))*100, "cpu-%")
	}
	b.StopTimer()
	n.close()
}

// cpuTime is the processor time of this process so far.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
