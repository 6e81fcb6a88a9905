// SPDX-License-Identifier: Apache-2.0

package proxier_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/nftproxy/nftproxy/conntrack"
	"github.com/nftproxy/nftproxy/proxier"
	"github.com/nftproxy/nftproxy/proxier/health"
	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/rulestest"
)

// slowConntrack takes its time, and may fail.
type slowConntrack struct {
	mu      sync.Mutex
	cleaned []string
	takes   time.Duration // default: 200 ms
	waits   time.Duration // for the CPU, besides
	err     error
	late    []string // what the targets are at the end of each look
	looks   int
}

// count returns how many looks there were.
func (s *slowConntrack) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.looks
}

func (*slowConntrack) CountOpen(context.Context, map[rules.Backend]uint32) (time.Duration, error) {
	return 0, nil
}

func (s *slowConntrack) Clean(_ context.Context, targets []conntrack.Target, now func() []conntrack.Target) (conntrack.Deleted, error) {
	text := func(list []conntrack.Target) (out []string) {
		for _, t := range list {
			out = append(out, fmt.Sprintf("%s %v", t.Addr, t.Endpoints))
		}
		return out
	}
	s.mu.Lock()
	s.cleaned = append(s.cleaned, text(targets)...)
	s.looks++
	err := s.err
	s.mu.Unlock()
	busy := cmp.Or(s.takes, 200*time.Millisecond)
	time.Sleep(busy + s.waits)
	late := text(now())
	s.mu.Lock()
	defer s.mu.Unlock()
	s.late = append(s.late, late...)
	return conntrack.Deleted{Busy: busy}, err
}

// seen returns what was cleaned since forget.
func (s *slowConntrack) seen() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.cleaned)
}

// forget begins anew, with an error or none from now on.
func (s *slowConntrack) forget(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cleaned, s.err = nil, err
}

// runWith runs a proxier on a kernel and a connection tracking until the test ends.
func runWith(t *testing.T, c proxier.Config) (p *proxier.Proxier, stop func()) {
	t.Helper()
	c.Cluster.NodeName = "here"
	p = proxier.New(c)
	p.ReplaceNodes(nil)
	p.ReplaceServiceCIDRs(nil)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- p.Run(ctx) }()
	return p, func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// TestFlowsOfNow: what waits to be cleaned is cleaned by the endpoints of then.
func TestFlowsOfNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tracking := &slowConntrack{}
		p, stop := runWith(t, proxier.Config{Kernel: &rulestest.Kernel{}, Conntrack: tracking})
		defer stop()
		p.ReplaceServices([]*corev1.Service{service("web", "10.96.0.1", "80/UDP"), service("other", "10.96.0.2", "80/UDP")})
		p.ReplaceEndpointSlices([]*discoveryv1.EndpointSlice{endpoints("w", "web", "8080/UDP", "10.0.0.1 10.0.0.2")})
		synctest.Wait() // the cleaner is busy
		for _, addrs := range []string{"10.0.0.1", "10.0.0.1 10.0.0.3"} {
			p.UpdateEndpointSlice(endpoints("w", "web", "8080/UDP", addrs))
			synctest.Wait()
		}
		time.Sleep(10 * time.Second)
		got := slices.DeleteFunc(tracking.seen(), func(s string) bool { return !strings.HasPrefix(s, "10.96.0.1 ") })
		if got[len(got)-1] != "10.96.0.1 [10.0.0.1:8080 10.0.0.3:8080]" {
			t.Errorf("cleaned %q, want the endpoints of now last", got)
		}
	})
}

// TestFlowsWhileEndpointsCome: at the end of a look the endpoints are asked for that have come meanwhile, whose flows are not stale.
func TestFlowsWhileEndpointsCome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tracking := &slowConntrack{}
		p, stop := runWith(t, proxier.Config{Kernel: &rulestest.Kernel{}, Conntrack: tracking})
		defer stop()
		p.ReplaceServices([]*corev1.Service{service("web", "10.96.0.1", "80/UDP")})
		p.ReplaceEndpointSlices(nil)
		synctest.Wait() // the cleaner is busy: the service has no endpoint
		p.UpdateEndpointSlice(endpoints("w", "web", "8080/UDP", "10.0.0.1"))
		time.Sleep(10 * time.Second)
		if was, is := tracking.seen()[0], tracking.late[0]; was != "10.96.0.1 []" || is != "10.96.0.1 [10.0.0.1:8080]" {
			t.Errorf("a look began with %q and ended with %q", was, is)
		}
	})
}

// TestFlowsOfTCP: they are looked through when a frontend is new, and when something may have gone that
// clients wait for: not when endpoints only come.
func TestFlowsOfTCP(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tracking := &slowConntrack{}
		p, stop := runWith(t, proxier.Config{Kernel: &rulestest.Kernel{}, Conntrack: tracking})
		defer stop()
		p.ReplaceServices([]*corev1.Service{service("web", "10.96.0.1", "80")})
		looks := func(what string, change func(), want ...string) {
			t.Helper()
			tracking.forget(nil)
			change()
			time.Sleep(10 * time.Minute)
			if got := tracking.seen(); !slices.Equal(got, slices.Concat(want, want)) { // each has a second look
				t.Errorf("%s: looked for %q, want %q twice", what, got, want)
			}
		}
		looks("start", func() {
			p.ReplaceEndpointSlices([]*discoveryv1.EndpointSlice{endpoints("w", "web", "8080", "10.0.0.1 10.0.0.2")})
		}, "10.96.0.1 [10.0.0.1:8080 10.0.0.2:8080]")
		for _, row := range []struct{ addrs, want string }{
			{"10.0.0.2", "10.96.0.1 [10.0.0.2:8080]"},
			{"10.0.0.3", "10.96.0.1 [10.0.0.3:8080]"},
			{"10.0.0.3 10.0.0.4", ""},
			{"10.0.0.3 10.0.0.4x", "10.96.0.1 [10.0.0.3:8080]"},               // not ready any more
			{"10.0.0.3 10.0.0.4", ""},                                         // and ready
			{"10.0.0.3 10.0.0.4t", "10.96.0.1 [10.0.0.3:8080 10.0.0.4:8080]"}, // draining: it serves those that it has
			{"10.0.0.3", "10.96.0.1 [10.0.0.3:8080]"},                         // and gone
			{"", "10.96.0.1 []"},
			{"10.0.0.5", ""},
		} {
			var want []string
			if row.want != "" {
				want = append(want, row.want)
			}
			looks("endpoints "+row.addrs, func() { p.UpdateEndpointSlice(endpoints("w", "web", "8080", row.addrs)) }, want...)
		}
		looks("a new service", func() { p.UpdateService(service("other", "10.96.0.2", "80")) }, "10.96.0.2 []")
		looks("it goes", func() { p.DeleteService("default", "other") }, "10.96.0.2 []")
	})
}

// lateConntrack has a stale flow at some of its looks, and notes when they were.
type lateConntrack struct {
	slowConntrack
	began time.Time
	stale []bool          // at the looks since began; none after them
	at    []time.Duration // when they were
}

func (l *lateConntrack) Clean(context.Context, []conntrack.Target, func() []conntrack.Target) (conntrack.Deleted, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	d := conntrack.Deleted{Busy: l.takes}
	if n := len(l.at); n < len(l.stale) && l.stale[n] {
		d.V6 = 1
	}
	l.at = append(l.at, time.Since(l.began).Round(time.Millisecond))
	return d, nil
}

// TestFlowsThatComeLate: a packet that was on its way during a commit becomes a flow after the first look. It is found by a second one,
// and others after it: as long as they find something, but not for ever. They come later where looks take long.
func TestFlowsThatComeLate(t *testing.T) {
	const often = 100
	always := slices.Repeat([]bool{true}, often)
	for name, row := range map[string]struct {
		protocol string
		takes    time.Duration
		stale    []bool
		want     string
	}{
		"nothing comes":     {"UDP", 0, nil, "[0s 4s]"},
		"it was there":      {"UDP", 0, []bool{true}, "[0s 4s]"},
		"it comes late":     {"UDP", 0, []bool{true, true}, "[0s 4s 8s]"},
		"one after another": {"UDP", 0, always, "[0s 4s 8s 12s 16s]"},
		"TCP":               {"TCP", 0, []bool{false, true}, "[0s 4s 8s]"},
		"a large table":     {"UDP", 2 * time.Second, []bool{true, true}, "[0s 11s 31s]"},
		"a very large one":  {"UDP", 5 * time.Second, nil, "[0s 47s]"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tracking := &lateConntrack{}
				p, stop := runWith(t, proxier.Config{Kernel: &rulestest.Kernel{}, Conntrack: tracking})
				defer stop()
				p.ReplaceServices([]*corev1.Service{service("web", "10.96.0.1", "80/"+row.protocol)})
				p.ReplaceEndpointSlices([]*discoveryv1.EndpointSlice{endpoints("w", "web", "8080/"+row.protocol, "10.0.0.1 10.0.0.2")})
				time.Sleep(10 * time.Minute)
				tracking.mu.Lock()
				tracking.began, tracking.at, tracking.stale, tracking.takes = time.Now(), nil, row.stale, row.takes
				tracking.mu.Unlock()
				p.UpdateEndpointSlice(endpoints("w", "web", "8080/"+row.protocol, "10.0.0.2"))
				time.Sleep(10 * time.Minute)
				tracking.mu.Lock()
				defer tracking.mu.Unlock()
				if got := fmt.Sprint(tracking.at); got != row.want {
					t.Errorf("looked after %s, want %s", got, row.want)
				}
			})
		})
	}
}

// TestSecondLooksAreShared: where changes come one after another, the first look of one is the second look of those that came two
// seconds or more before, and each has one in time.
func TestSecondLooksAreShared(t *testing.T) {
	for _, protocol := range []string{"TCP", "UDP"} {
		synctest.Test(t, func(t *testing.T) {
			tracking := &slowConntrack{takes: 10 * time.Millisecond}
			p, stop := runWith(t, proxier.Config{Kernel: &rulestest.Kernel{}, Conntrack: tracking})
			defer stop()
			const services = 20
			var list []*corev1.Service
			var endpointSlices []*discoveryv1.EndpointSlice
			for i := range services {
				name := fmt.Sprint("s", i)
				list = append(list, service(name, fmt.Sprintf("10.96.0.%d", i), "80/"+protocol))
				endpointSlices = append(endpointSlices, endpoints(name, name, "8080/"+protocol, "10.0.0.1 10.0.0.2"))
			}
			p.ReplaceServices(list)
			p.ReplaceEndpointSlices(endpointSlices)
			time.Sleep(time.Hour)
			looks := tracking.count()
			for i := range services {
				tracking.forget(nil)
				name := fmt.Sprint("s", i)
				p.UpdateEndpointSlice(endpoints(name, name, "8080/"+protocol, "10.0.0.2"))
				time.Sleep(1100 * time.Millisecond)
				got := tracking.seen()
				slices.Sort(got)
				want := []string{fmt.Sprintf("10.96.0.%d [10.0.0.2:8080]", i)}
				if i%2 == 0 && i > 0 { // the two before, from 2.2 s on
					want = append(want, fmt.Sprintf("10.96.0.%d [10.0.0.2:8080]", i-2))
					if i > 2 {
						want = append(want, fmt.Sprintf("10.96.0.%d [10.0.0.2:8080]", i-3))
					}
				}
				slices.Sort(want)
				if !slices.Equal(got, want) {
					t.Errorf("%s, change %d: looked for %q, want %q", protocol, i, got, want)
				}
			}
			time.Sleep(time.Minute)
			if n := tracking.count() - looks; n > services+2 {
				t.Errorf("%s: %d looks for %d changes", protocol, n, services)
			}
		})
	}
}

// TestFlowsOfARollingUpdate: while endpoints go all the time, the first looks come at once, and those
// of a long time take no more than a twentieth of it for TCP, a tenth for UDP, however long one takes.
func TestFlowsOfARollingUpdate(t *testing.T) {
	for _, row := range []struct {
		protocol string
		takes    time.Duration
		share    time.Duration
		waits    time.Duration
	}{
		{"TCP", 10 * time.Millisecond, 20, 0}, {"TCP", 250 * time.Millisecond, 20, 0}, {"TCP", 900 * time.Millisecond, 20, 0},
		{"UDP", 10 * time.Millisecond, 10, 0}, {"UDP", 250 * time.Millisecond, 10, 0}, {"UDP", 900 * time.Millisecond, 10, 0},
		{"TCP", 10 * time.Millisecond, 20, 500 * time.Millisecond}, {"UDP", 10 * time.Millisecond, 10, 500 * time.Millisecond},
	} {
		synctest.Test(t, func(t *testing.T) {
			takes := row.takes
			tracking := &slowConntrack{takes: takes, waits: row.waits}
			p, stop := runWith(t, proxier.Config{Kernel: &rulestest.Kernel{}, Conntrack: tracking})
			defer stop()
			p.ReplaceServices([]*corev1.Service{service("web", "10.96.0.1", "80/"+row.protocol)})
			p.ReplaceEndpointSlices([]*discoveryv1.EndpointSlice{endpoints("w", "web", "8080/"+row.protocol, "10.0.0.1")})
			time.Sleep(time.Hour)
			tracking.forget(nil)
			began := time.Now()
			for i := range 6000 {
				p.UpdateEndpointSlice(endpoints("w", "web", "8080/"+row.protocol, fmt.Sprintf("10.0.0.%d", 1+i%200)))
				time.Sleep(100 * time.Millisecond)
				if at := time.Since(began); at == 2*time.Second {
					most := takes + row.waits + 200*time.Millisecond
					if n := len(tracking.seen()); n < int(at/most) {
						t.Errorf("%+v: %d looks in the first %s, want one in %s", row, n, at, most)
					}
				}
			}
			looks := len(tracking.seen())
			used := time.Duration(looks) * takes
			if row.waits > 0 && looks < 500 { // what others take of the CPU is no reason to look seldom
				t.Errorf("%+v: %d looks in %s", row, looks, time.Since(began))
			}
			if most := 4*time.Second + time.Since(began)/row.share; used > most {
				t.Errorf("%+v: looking took %s, want at most %s", row, used, most)
			}
		})
	}
}

// TestFlowsArePaced: after a look what comes is gathered for a moment, and where looks take long, longer; and
// UDP's do not wait for TCP's.
func TestFlowsArePaced(t *testing.T) {
	for _, row := range []struct {
		protocol    string
		takes, rest time.Duration
	}{
		{"TCP", time.Millisecond, 100 * time.Millisecond},
		{"TCP", 4 * time.Second, 19 * time.Second},
		{"UDP", time.Millisecond, 0},
		{"UDP", 4 * time.Second, 9 * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			tracking := &slowConntrack{takes: row.takes}
			p, stop := runWith(t, proxier.Config{Kernel: &rulestest.Kernel{}, Conntrack: tracking})
			defer stop()
			p.ReplaceServices([]*corev1.Service{service("dns", "10.96.1.1", "53/UDP")})
			p.ReplaceEndpointSlices(nil)
			time.Sleep(time.Hour)
			tracking.forget(nil)
			p.UpdateService(service("a", "10.96.0.1", "80/"+row.protocol))
			synctest.Wait() // the cleaner is at it
			p.UpdateService(service("b", "10.96.0.2", "80/"+row.protocol))
			time.Sleep(row.takes + row.rest - time.Millisecond/2)
			if got, want := tracking.seen(), []string{"10.96.0.1 []"}; !slices.Equal(got, want) {
				t.Errorf("%+v: looked for %q before the rest was over, want %q", row, got, want)
			}
			time.Sleep(time.Millisecond)
			if got, want := tracking.seen(), []string{"10.96.0.1 []", "10.96.0.2 []"}; !slices.Equal(got, want) {
				t.Errorf("%+v: looked for %q after the rest, want %q", row, got, want)
			}
			if row.protocol == "TCP" {
				p.UpdateEndpointSlice(endpoints("d", "dns", "53/UDP", "10.0.0.1"))
				synctest.Wait()
				if got := tracking.seen(); got[len(got)-1] != "10.96.1.1 [10.0.0.1:53]" {
					t.Errorf("UDP's flows wait for TCP's: %q", got)
				}
			}
		})
	}
}

// TestFlowsAreTriedAgain when they could not be deleted.
func TestFlowsAreTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tracking := &slowConntrack{err: errors.New("no buffer space available")}
		p, stop := runWith(t, proxier.Config{Kernel: &rulestest.Kernel{}, Conntrack: tracking})
		defer stop()
		p.ReplaceServices([]*corev1.Service{service("web", "10.96.0.1", "80/UDP")})
		p.ReplaceEndpointSlices([]*discoveryv1.EndpointSlice{endpoints("w", "web", "8080/UDP", "10.0.0.1")})
		time.Sleep(5 * time.Minute)
		if n := len(tracking.seen()); n < 5 || n > 100 {
			t.Errorf("tried %d times in 5 minutes, want some", n)
		}
		tracking.forget(nil)
		time.Sleep(5 * time.Minute)
		n := len(tracking.seen())
		time.Sleep(time.Hour)
		if again := len(tracking.seen()) - n; again != 0 {
			t.Errorf("tried %d times more after it had worked", again)
		}
	})
}

// TestRepairIsTriedAgain: a repair that the kernel refuses, as a whole or of one
// service, does not wait for the next period.
func TestRepairIsTriedAgain(t *testing.T) {
	for name, refuse := range map[string]func(rules.Op) bool{
		"all of it":   func(o rules.Op) bool { return o.Kind == rules.AddTable },
		"one service": func(o rules.Op) bool { return o.Kind == rules.AddElements && o.Set.Kind == rules.Single },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := start(t, &rulestest.Kernel{})
				defer n.stop()
				n.lists(service("web", "10.96.0.1", "80"), endpoints("web-1", "web", "8080", "10.0.0.1"))
				n.expect("10.96.0.1:80", "10.0.0.1:8080")
				n.kernel.Refuse(refuse)
				n.kernel.Tamper(func(s *rules.State) { s.Tables = [2]*rules.Table{} })
				n.changed <- struct{}{}
				time.Sleep(time.Second)
				n.kernel.Refuse(nil)
				time.Sleep(time.Minute)
				synctest.Wait()
				n.expect("10.96.0.1:80", "10.0.0.1:8080")
			})
		})
	}
}

// slowKernel takes a second for each commit, and may fail to read.
type slowKernel struct {
	rulestest.Kernel
	fail atomic.Bool
}

func (k *slowKernel) Apply(tx rules.Tx) error {
	time.Sleep(time.Second)
	if k.fail.Load() {
		return errors.New("no buffer space available")
	}
	return k.Kernel.Apply(tx)
}

func (k *slowKernel) Read(table string) (rules.State, error) {
	if k.fail.Load() {
		return rules.State{}, errors.New("no buffer space available")
	}
	return k.Kernel.Read(table)
}

func (k *slowKernel) Scan(table string, things []rules.Thing, to rules.Parts) error {
	if k.fail.Load() {
		return errors.New("no buffer space available")
	}
	return k.Kernel.Scan(table, things, to)
}

// TestHealthOfWhatCameMeanwhile: a change that comes in during a commit and then cannot be
// programmed makes nftproxy unhealthy.
func TestHealthOfWhatCameMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kernel, alive, answers := &slowKernel{}, health.NewProxy(time.Minute), health.New(health.Config{})
		defer answers.Close()
		p, stop := runWith(t, proxier.Config{Kernel: kernel, Health: struct {
			*health.Services
			*health.Proxy
		}{answers, alive}})
		defer stop()
		p.ReplaceServices([]*corev1.Service{service("web", "10.96.0.1", "80")})
		p.ReplaceEndpointSlices([]*discoveryv1.EndpointSlice{endpoints("w", "web", "8080", "10.0.0.1")})
		time.Sleep(500 * time.Millisecond)
		p.UpdateEndpointSlice(endpoints("w", "web", "8080", "10.0.0.2"))
		<-p.Synced()
		kernel.fail.Store(true)
		time.Sleep(2 * time.Minute)
		if alive.Healthy() {
			t.Error("healthy two minutes after a change that is not programmed")
		}
		kernel.fail.Store(false)
		time.Sleep(2 * time.Minute)
		if !alive.Healthy() {
			t.Error("not healthy after all was programmed")
		}
	})
}
