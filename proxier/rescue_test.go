// SPDX-License-Identifier: Apache-2.0

package proxier_test

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/nftproxy/nftproxy/conntrack"
	"github.com/nftproxy/nftproxy/proxier"
	"github.com/nftproxy/nftproxy/proxier/cluster"
	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/rulestest"
)

// packets are what was noted of packets, and connection tracking. It belongs to the bubble of a test.
type packets struct {
	mu       sync.Mutex
	noted    map[rules.Key]notedAt // unanswered
	answered map[rules.Key]time.Time
	flows    map[netip.AddrPort]conntrack.Flow
	sticky   map[netip.Addr]netip.AddrPort
	freed    []string // by their clients
	away     []string // endpoints all of whose connections are freed
	looks    int
	slow     time.Duration // each look
	costs    time.Duration // of CPU time, each look
	busy     time.Duration // CPU time so far
}

type notedAt struct {
	to   netip.AddrPort
	when time.Time
}

// lock locks p, and returns what unlocks it.
func (p *packets) lock() func() {
	p.mu.Lock()
	return p.mu.Unlock
}

// looked returns how often somebody has looked.
func (p *packets) looked() int {
	defer p.lock()()
	return p.looks
}

// Filled implements proxier.Noted.
func (p *packets) Filled(_ string, f rules.Family, kind rules.SetKind, fn func(rules.Element, rules.Lifetime)) error {
	unlock := p.lock()
	slow := time.Duration(0)
	if p.looks++; kind == rules.Unanswered && f == rules.IPv4 {
		slow, p.busy = p.slow, p.busy+p.costs
	}
	unlock()
	time.Sleep(slow)
	defer p.lock()()
	tell := func(k rules.Key, v rules.Value, since time.Time, timeout time.Duration) {
		if left := timeout - time.Since(since); left > 0 && rules.FamilyOf(k.Addr) == f {
			fn(rules.Element{Key: k, Value: v}, rules.Lifetime{Timeout: uint64(timeout.Milliseconds()), Expires: uint64(left.Milliseconds())})
		}
	}
	switch kind {
	case rules.Unanswered:
		for k, n := range p.noted {
			tell(k, rules.Value{To: n.to}, n.when, time.Second)
		}
	case rules.Answering:
		for k, when := range p.answered {
			tell(k, rules.Value{}, when, rules.AnsweringSeconds*time.Second)
		}
	}
	return nil
}

// cpu says how much CPU time looks take.
func (p *packets) cpu(look func()) time.Duration {
	busy := func() time.Duration {
		defer p.lock()()
		return p.busy
	}
	before := busy()
	look()
	return busy() - before
}

// Lookup implements proxier.Noted.
func (p *packets) Lookup(_ string, _ rules.Family, id rules.SetID, k rules.Key) (rules.Value, bool, error) {
	defer p.lock()()
	to, ok := p.sticky[k.Addr]
	return rules.Value{To: to}, ok && id.Name() == "affinity/default/sticky/http", nil
}

// Get implements proxier.UnansweredFlows.
func (p *packets) Get(_ context.Context, _ rules.Protocol, t conntrack.Tuple) (conntrack.Flow, bool, error) {
	defer p.lock()()
	f, ok := p.flows[t.Src]
	return f, ok, nil
}

// Delete implements proxier.UnansweredFlows.
func (p *packets) Delete(_ context.Context, flows []conntrack.Flow) (int, error) {
	defer p.lock()()
	for _, f := range flows {
		p.freed = append(p.freed, f.Orig.Src.String())
		delete(p.flows, f.Orig.Src)
	}
	return len(flows), nil
}

// DeleteUnanswered implements proxier.UnansweredFlows.
func (p *packets) DeleteUnanswered(_ context.Context, list []rules.Backend) (int, error) {
	defer p.lock()()
	for _, b := range list {
		p.away = append(p.away, b.Addr.String())
	}
	return 0, nil
}

// resend is a client's first packet, sent again, of a connection to an endpoint.
func (p *packets) resend(client int, proto rules.Protocol, to, endpoint string) {
	src := netip.AddrPortFrom(netip.MustParseAddr("10.244.1.10"), uint16(client))
	dst := netip.MustParseAddrPort(to)
	defer p.lock()()
	p.flows[src] = conntrack.Flow{Protocol: proto, Orig: conntrack.Tuple{Src: src, Dst: dst},
		Reply: conntrack.Tuple{Src: netip.MustParseAddrPort(endpoint), Dst: src}}
	p.noted[rules.Key{Addr: src.Addr(), Protocol: proto, Port: src.Port()}] = notedAt{dst, time.Now()}
}

// answer is an endpoint's answer to anybody.
func (p *packets) answer(proto rules.Protocol, endpoint string) {
	at := netip.MustParseAddrPort(endpoint)
	defer p.lock()()
	p.answered[rules.Key{Addr: at.Addr(), Protocol: proto, Port: at.Port()}] = time.Now()
}

// pass lets time pass, until nobody has anything left to do.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// took returns what was freed since the last time.
func (p *packets) took() string {
	defer p.lock()()
	slices.Sort(p.freed)
	out := strings.Join(p.freed, " ")
	p.freed = nil
	return strings.ReplaceAll(out, "10.244.1.10:", "")
}

// startFailover runs a proxier with failover, with metrics by service port.
func startFailover(t *testing.T, on bool) (*node, *packets) {
	return startFailoverWith(t, on, proxier.NewFailoverMetrics(true), nil)
}

// startSelecting does so, and has fn told of each owner with failover whose endpoints are selected.
func startSelecting(t *testing.T, on bool, fn func(rules.Owner)) (*node, *packets) {
	return startFailoverWith(t, on, proxier.NewFailoverMetrics(true), fn)
}

// startFailoverWith runs a proxier with failover, with other metrics; fn may be nil.
func startFailoverWith(t *testing.T, on bool, metrics *proxier.FailoverMetrics, fn func(rules.Owner)) (*node, *packets) {
	p := &packets{noted: map[rules.Key]notedAt{}, answered: map[rules.Key]time.Time{}, flows: map[netip.AddrPort]conntrack.Flow{},
		sticky: map[netip.Addr]netip.AddrPort{}}
	n := &node{t: t, kernel: &rulestest.Kernel{}}
	n.Proxier = proxier.New(proxier.Config{Cluster: cluster.Config{NodeName: "here", Failover: on}, Kernel: n.kernel, Events: n, Logger: n.logger()})
	n.UseFailover(proxier.Failover{Noted: p, Flows: p, Metrics: metrics, CPU: p.cpu})
	if fn != nil {
		n.OnSelect(fn)
	}
	n.ReplaceNodes(nil)
	n.ReplaceServiceCIDRs(nil)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- n.Run(ctx) }()
	n.stop = func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
	return n, p
}

const (
	webAt    = "10.96.0.1:80"
	deadAt   = "10.244.1.2:8080"
	liveAt   = "10.244.1.3:8080"
	dnsAt    = "10.96.0.2:53"
	deadDNS  = "10.244.1.2:5353"
	liveDNS  = "10.244.1.3:5353"
	stickyAt = "10.96.0.3:80"
	offAt    = "10.96.0.4:80"
)

// failoverObjects are Services whose endpoints are deadAt, liveAt and a third one.
func failoverObjects() []any {
	off := service("off", "10.96.0.4", "http:80")
	off.Annotations = map[string]string{cluster.FailoverAnnotation: "false"}
	sticky := service("sticky", "10.96.0.3", "http:80")
	sticky.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
	list := []any{service("web", "10.96.0.1", "http:80"), service("dns", "10.96.0.2", "dns:53/UDP"), sticky, off}
	for name, p := range map[string]string{"web": "http:8080", "dns": "dns:5353/UDP", "sticky": "http:8080", "off": "http:8080"} {
		list = append(list, endpoints(name, name, p, "10.244.1.2 10.244.1.3 10.244.1.4"))
	}
	return list
}

// TestRescue: connections without an answer are freed once each time that their first packet was sent again.
func TestRescue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, p := startFailover(t, true)
		defer n.stop()
		n.lists(failoverObjects()...)
		p.answer(rules.TCP, liveAt)
		expect := func(what, want string) {
			t.Helper()
			if got := p.took(); got != want {
				t.Errorf("%s: %q were freed, want %q", what, got, want)
			}
		}
		pass(450 * time.Millisecond) // a look comes every 250 ms
		p.resend(1, rules.TCP, webAt, deadAt)
		pass(150 * time.Millisecond)
		expect("before it may have been answered", "")
		pass(300 * time.Millisecond)
		expect("then", "1")
		p.resend(1, rules.TCP, webAt, liveAt)
		unlock := p.lock()
		delete(p.noted, rules.Key{Addr: netip.MustParseAddr("10.244.1.10"), Protocol: rules.TCP, Port: 1}) // it is the next endpoint's first packet
		unlock()
		pass(2 * time.Second)
		expect("the next endpoint", "")
		freed := 1
		for i := range 60 { // it is sent again each second
			p.resend(1, rules.TCP, webAt, deadAt)
			pass(time.Second)
			if got := p.took(); got != "" {
				freed++
			}
			for at, want := range map[int]int{0: 2, 1: 3, 2: 3, 4: 4, 6: 4, 8: 5, 14: 5, 17: 6, 30: 6, 33: 7, 59: 7} {
				if i == at && freed != want {
					t.Errorf("after %d s: freed %d times, want %d", i+1, freed, want)
				}
			}
		}
		p.resend(2, rules.TCP, offAt, deadAt)
		p.resend(3, rules.TCP, "10.96.9.9:80", deadAt)   // another program's
		p.resend(4, rules.TCP, webAt, "10.244.9.9:8080") // no endpoint any more
		p.resend(5, rules.UDP, dnsAt, deadDNS)           // nobody has ever answered there
		unlock = p.lock()
		answered := p.flows[netip.MustParseAddrPort("10.244.1.10:4")]
		answered.Orig.Src, answered.Reply.Src, answered.Status = netip.MustParseAddrPort("10.244.1.10:6"), netip.MustParseAddrPort(deadAt), conntrack.StatusSeenReply
		unlock()
		p.resend(6, rules.TCP, webAt, deadAt)
		unlock = p.lock()
		p.flows[answered.Orig.Src] = answered
		unlock()
		pass(time.Second)
		expect("what is not ours", "")
		p.answer(rules.UDP, liveDNS)
		p.resend(7, rules.UDP, dnsAt, deadDNS)
		pass(time.Second)
		expect("UDP of a Service that answers", "7")
		unlock = p.lock()
		p.sticky[netip.MustParseAddr("10.244.1.10")] = netip.MustParseAddrPort(deadAt)
		unlock()
		p.resend(8, rules.TCP, stickyAt, deadAt)
		pass(time.Second)
		expect("a client that is remembered", "8")
		if n.events != nil {
			t.Errorf("Events: %v", n.events)
		}
	})
}

// TestRescueOnABusyNode: a look that takes long because others have the processors is followed by the next one soon; one that takes
// much of a CPU's time is not.
func TestRescueOnABusyNode(t *testing.T) {
	for _, busy := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			n, p := startFailover(t, true)
			defer n.stop()
			n.lists(failoverObjects()...)
			pass(time.Second)
			unlock := p.lock()
			if p.slow = 500 * time.Millisecond; busy {
				p.costs = p.slow
			}
			unlock()
			before := p.looked()
			for range 20 {
				p.resend(1, rules.TCP, webAt, deadAt)
				pass(time.Second)
			}
			if looks := (p.looked() - before) / 3; busy && looks > 5 || !busy && looks < 20 {
				t.Errorf("in 20 s, with much CPU time %v: looked about %d times", busy, looks)
			}
		})
	}
}

// TestEjection: an endpoint that answers nobody gets no new connections, is tried, and is back when it answers.
func TestEjection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, p := startFailover(t, true)
		defer n.stop()
		n.lists(failoverObjects()...)
		n.expect(webAt, deadAt+" "+liveAt+" 10.244.1.4:8080")
		fail := func(clients ...int) {
			p.answer(rules.TCP, liveAt)
			p.answer(rules.TCP, "10.244.1.4:8080")
			for _, c := range clients {
				p.resend(c, rules.TCP, webAt, deadAt)
			}
			pass(time.Second)
		}
		fail(1, 2)
		n.expect(webAt, deadAt+" "+liveAt+" 10.244.1.4:8080")
		fail(3)
		n.expect(webAt, liveAt+" 10.244.1.4:8080")
		unlock := p.lock()
		if want := []string{deadAt}; !slices.Equal(p.away, want) {
			t.Errorf("all connections to %v are freed, want %v", p.away, want)
		}
		unlock()
		want := "EndpointSilent default/web: " + deadAt + " does not answer from node here: no new connections for 10s"
		if len(n.events) != 1 || !strings.Contains(n.events[0], "does not answer from node here: no new connections for 10s") {
			t.Errorf("Events: %q, want %q", n.events, want)
		}
		pass(10 * time.Second)
		if got := n.outcomes(webAt, 4); got != deadAt+" "+liveAt+" "+liveAt+" 10.244.1.4:8080" && got != deadAt+" "+liveAt+" 10.244.1.4:8080 10.244.1.4:8080" {
			t.Errorf("a trial: %s", got)
		}
		fail(4)
		n.expect(webAt, liveAt+" 10.244.1.4:8080")
		pass(15 * time.Second)
		n.expect(webAt, liveAt+" 10.244.1.4:8080")
		p.answer(rules.TCP, deadAt)
		pass(time.Second)
		n.expect(webAt, deadAt+" "+liveAt+" 10.244.1.4:8080")
		fail(5, 6, 7)
		n.expect(webAt, liveAt+" 10.244.1.4:8080")
		if len(n.events) != 1 {
			t.Errorf("Events: %q", n.events)
		}
		pass(2 * time.Minute)
		n.expect(webAt, deadAt+" "+liveAt+" 10.244.1.4:8080")
		n.DeleteService("default", "web")
		n.DeleteService("default", "dns")
		n.DeleteService("default", "sticky")
		pass(time.Second)
		looks := p.looked()
		if looks == 0 {
			t.Error("nobody has looked")
		}
		pass(time.Minute)
		if now := p.looked(); now != looks {
			t.Errorf("%d looks without a Service with failover", now-looks)
		}
	})
}

// TestSelectedOnce: the endpoints of an owner are selected once for each time that it is programmed, however often it is looked
// for connections without an answer.
func TestSelectedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		selected := map[string]int{}
		n, p := startSelecting(t, true, func(o rules.Owner) { selected[o.ServicePortName.Name]++ })
		defer n.stop()
		n.lists(failoverObjects()...)
		want := map[string]int{"web": 1, "dns": 1, "sticky": 1}
		check := func(when string) {
			t.Helper()
			pass(time.Second)
			if !maps.Equal(selected, want) {
				t.Errorf("%s: endpoints were selected %v times, want %v", when, selected, want)
			}
		}
		check("at first")
		for client := range 3 {
			check("endpoints answer, and one does not")
			p.answer(rules.TCP, liveAt)
			p.resend(client, rules.TCP, webAt, deadAt)
		}
		want["web"]++
		check("it is ejected")
		n.expect(webAt, liveAt+" 10.244.1.4:8080")
		looks := p.looked()
		for range 5 {
			check("others answer")
			p.answer(rules.TCP, liveAt)
		}
		if p.looked() < looks+10 {
			t.Errorf("%d looks in seconds", p.looked()-looks)
		}
		n.UpdateEndpointSlice(endpoints("sticky", "sticky", "http:8080", "10.244.1.2 10.244.1.3"))
		want["sticky"]++
		check("an endpoint goes")
	})
}

// TestFailoverOff: without a Service that wants it the kernel notes nothing, and nobody looks; an annotation is enough.
func TestFailoverOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, p := startFailover(t, false)
		defer n.stop()
		n.lists(failoverObjects()...)
		pass(time.Minute)
		if _, ok := n.kernel.State().Tables[rules.IPv4].Chains[rules.ChainFailoverIn.Chain()]; ok || p.looked() > 0 {
			t.Errorf("the kernel notes packets: %t, %d looks", ok, p.looked())
		}
		on := service("on", "10.96.0.5", "http:80")
		on.Annotations = map[string]string{cluster.FailoverAnnotation: "true"}
		n.UpdateService(on)
		n.UpdateEndpointSlice(endpoints("on", "on", "http:8080", "10.244.1.2 10.244.1.3"))
		pass(time.Minute)
		if _, ok := n.kernel.State().Tables[rules.IPv4].Chains[rules.ChainFailoverIn.Chain()]; !ok || p.looked() == 0 {
			t.Errorf("the kernel notes packets: %t, %d looks", ok, p.looked())
		}
		bad := service("on", "10.96.0.5", "http:80")
		bad.Annotations = map[string]string{cluster.FailoverAnnotation: "yes\n"}
		n.UpdateService(bad)
		pass(time.Minute)
		if len(n.events) != 1 || !strings.Contains(n.events[0], `annotation nftproxy.io/failover: "yes\n" is neither "true" nor "false": false is used`) {
			t.Errorf("Events: %q", n.events)
		}
	})
}
