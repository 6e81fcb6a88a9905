// SPDX-License-Identifier: Apache-2.0

//go:build linux

package packets

import (
	"fmt"
	"net/netip"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/netns/netnstest"
	"github.com/nftproxy/nftproxy/e2e/traffic"
)

// silence makes a host take no packets to some addresses, without a word: what a rule drops, if it says nothing else.
// With no addresses it takes all packets again.
func silence(t *testing.T, at netns.Host, rule string, hosts ...netns.Host) {
	t.Helper()
	script := "table inet silent\ndelete table inet silent\n"
	if len(hosts) > 0 {
		var v4, v6 []string
		for _, h := range hosts {
			v4, v6 = append(v4, h.V4.String()), append(v6, h.V6.String())
		}
		script += fmt.Sprintf(`table inet silent {
			chain in { type filter hook prerouting priority -400
				ip daddr { %s } %s drop
				ip6 daddr { %s } %s drop
			}
		}`, strings.Join(v4, ", "), rule, strings.Join(v6, ", "), rule)
	}
	cmd := exec.CommandContext(patient(t), netnstest.Tool(t, "nft"), "-f", "-")
	cmd.Stdin = strings.NewReader(script)
	var out []byte
	if err := at.Do(func() (err error) { out, err = cmd.CombinedOutput(); return err }); err != nil {
		t.Fatalf("nft -f: %v\n%s", err, out)
	}
}

// failoverMetric returns a number that nftproxy serves.
func (w *world) failoverMetric(t *testing.T, name string) int {
	t.Helper()
	return w.failoverMetrics(t, name)[0]
}

// failoverMetrics returns several of the same moment.
func (w *world) failoverMetrics(t *testing.T, names ...string) (list []int) {
	t.Helper()
	text := w.metrics(t)
	for _, name := range names {
		m := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(name) + ` ([0-9]+)$`).FindStringSubmatch(text)
		if m == nil {
			t.Fatalf("no metric %s in:\n%s", name, text)
		}
		n, _ := strconv.Atoi(m[1])
		list = append(list, n)
	}
	return list
}

const (
	rescuedTotal = "nftproxy_failover_rescued_total"
	ejectedTotal = "nftproxy_failover_ejected_total"
	ejectedNow   = `nftproxy_failover_endpoints{state="ejected"}`
	suspended    = "nftproxy_failover_suspended"
)

// failoverWorld has failover, and as many pods elsewhere.
func failoverWorld(t *testing.T, remote int, args ...string) *world {
	t.Helper()
	return newWorld(t, config{cluster: netns.Config{RemotePods: remote}, args: append([]string{"--failover", "--node-ip", "172.18.0.2,fd00:172:18::2"}, args...)})
}

// together makes connections at once and returns how they ended.
func together(t *testing.T, n int, from netns.Host, p traffic.Protocol, to netip.AddrPort) []traffic.Result {
	t.Helper()
	results := make([]traffic.Result, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { results[i] = persistent(t, from, p, to) })
	}
	wg.Wait()
	return results
}

// persistent asks for an answer again and again, from one port, as TCP does by itself.
func persistent(t *testing.T, from netns.Host, p traffic.Protocol, to netip.AddrPort) traffic.Result {
	return persistentFor(t, from, p, to, 2*patience) // a SYN that got lost, and the one after it, are sent again after 7 s
}

// persistentFor does so for some time at most.
func persistentFor(t *testing.T, from netns.Host, p traffic.Protocol, to netip.AddrPort, limit time.Duration) traffic.Result {
	client := traffic.Client{NS: from.NS, Timeout: limit}
	if p == traffic.TCP {
		return client.Connect(t.Context(), p, to)
	}
	start := time.Now()
	client.Timeout = 500 * time.Millisecond
	if p == traffic.SCTP {
		client.Timeout = time.Second // RTO.Initial of RFC 9260
	}
	conn, err := client.Open(t.Context(), p, to)
	for err != nil && time.Since(start) < limit { // a busy machine
		conn, err = client.Open(t.Context(), p, to)
	}
	if err != nil {
		return traffic.Result{Outcome: traffic.Failed, Err: err}
	}
	defer conn.Close()
	for {
		r := conn.Ask(t.Context())
		if r.Elapsed = time.Since(start); r.Outcome == traffic.Answered || r.Elapsed > limit {
			return r
		}
	}
}

// wantAnswered checks that all were answered, by none of some hosts, and returns the longest time.
func wantAnswered(t *testing.T, results []traffic.Result, not ...netns.Host) (longest time.Duration) {
	t.Helper()
	for i, r := range results {
		if r.Outcome != traffic.Answered {
			t.Errorf("connection %d: %s", i, r)
			continue
		}
		for _, h := range not {
			if r.Backend.Addr() == h.V4 || r.Backend.Addr() == h.V6 {
				t.Errorf("connection %d was answered by %s", i, r.Backend)
			}
		}
		longest = max(longest, r.Elapsed)
	}
	return longest
}

// TestFailoverSilent: of three endpoints one is silent, from the start. All connections are answered, from wherever they
// come; then nobody is sent there, and the others get theirs in turn.
func TestFailoverSilent(t *testing.T) {
	t.Parallel()
	w := failoverWorld(t, 3)
	dead := w.RemotePods[1]
	silence(t, w.Remote, "", dead)
	plain := w.service("off").to(ready(w.RemotePods...))
	plain.Annotations = map[string]string{"nftproxy.io/failover": "false"}
	for _, p := range traffic.Protocols() {
		for _, f := range netns.Families() {
			for _, from := range w.clients() {
				s := w.service(nameOf(fmt.Sprintf("%s-%s-%s", p, f, from.Name())), only(f), port("", p, servicePort, backendPort)).to(ready(w.RemotePods...))
				w.apply(t, s)
				ejected := w.failoverMetric(t, ejectedTotal)
				longest := wantAnswered(t, together(t, 12, from, p, s.at(f, servicePort)), dead)
				t.Logf("%s over %s from %s: the last of 12 was answered after %v", p, f, from.Name(), longest)
				eventually(t, "an ejection", func() error {
					if n := w.failoverMetric(t, ejectedTotal); n == ejected {
						return fmt.Errorf("%d", n)
					}
					return nil
				})
				eventually(t, "round robin over the rest", func() error {
					return inTurn(connect(t.Context(), traffic.Client{NS: from.NS}, p, s.at(f, servicePort), 6),
						[]netip.AddrPort{netip.AddrPortFrom(w.RemotePods[0].Addr(f), backendPort), netip.AddrPortFrom(w.RemotePods[2].Addr(f), backendPort)})
				})
				w.remove(t, s)
			}
		}
	}
	w.apply(t, plain)
	outcomes := map[traffic.Outcome]int{}
	for range 6 {
		outcomes[traffic.Client{NS: w.Client.NS, Timeout: 3 * time.Second}.Connect(t.Context(), traffic.TCP, plain.at(netns.IPv4, servicePort)).Outcome]++
	}
	if outcomes[traffic.TimedOut] != 2 || outcomes[traffic.Answered] != 4 {
		t.Errorf("with failover switched off: %v, want 2 of 6 without an answer", outcomes)
	}
}

// oneByOne makes connections, each begun some time after the one before, and returns how they ended.
func oneByOne(t *testing.T, n int, pause time.Duration, from netns.Host, p traffic.Protocol, to netip.AddrPort) []traffic.Result {
	t.Helper()
	results := make([]traffic.Result, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { results[i] = persistent(t, from, p, to) })
		<-time.After(pause) // a rate, not a wait for something
	}
	wg.Wait()
	return results
}

// longestStop measures until it is asked how long this process stood still at most. SCTP's endpoints are in it; where they stand
// still they do not answer.
func longestStop(t *testing.T) func() time.Duration {
	ended, longest := make(chan struct{}), make(chan time.Duration, 1)
	go func() {
		var most time.Duration
		for last := time.Now(); ; {
			select {
			case <-ended:
				longest <- most
				return
			case <-time.After(5 * time.Millisecond):
			}
			now := time.Now()
			most, last = max(most, now.Sub(last)), now
		}
	}()
	stop := sync.OnceValue(func() time.Duration { close(ended); return <-longest })
	t.Cleanup(func() { stop() })
	return stop
}

// place is a service of one family and protocol.
type place struct {
	netns.Family
	traffic.Protocol
	*svc
}

func (p place) to() netip.AddrPort { return p.at(p.Family, servicePort) }

// places makes a service for each family and some protocols, and applies them.
func (w *world) places(t *testing.T, name string, protocols []traffic.Protocol, hosts []netns.Host, options ...option) (out []place) {
	t.Helper()
	for _, f := range netns.Families() {
		for _, p := range protocols {
			s := w.service(nameOf(fmt.Sprintf("%s-%s-%s", name, f, p)), append([]option{only(f), port("", p, servicePort, backendPort)}, options...)...).to(ready(hosts...))
			out = append(out, place{f, p, s})
			w.apply(t, s)
		}
	}
	return out
}

// all are the protocols of places.
func all() []traffic.Protocol {
	protocols := traffic.Protocols()
	return protocols[:]
}

// atOnce does something with all of them at the same time.
func atOnce[T any](list []T, do func(T)) {
	var wg sync.WaitGroup
	for _, p := range list {
		wg.Go(func() { do(p) })
	}
	wg.Wait()
}

// ejections waits until so many endpoints are ejected.
func (w *world) ejections(t *testing.T, want int) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d ejections", want), func() error {
		if n := w.failoverMetric(t, ejectedNow); n != want {
			return fmt.Errorf("%d are ejected", n)
		}
		return nil
	})
}

// TestFailoverMiddle: an endpoint falls silent while connections come, and comes back. nftproxy starts anew meanwhile.
func TestFailoverMiddle(t *testing.T) {
	t.Parallel()
	w := failoverWorld(t, 3)
	dead := w.RemotePods[1]
	services := w.places(t, "web", all(), w.RemotePods)
	burst := func(n int, not ...netns.Host) {
		atOnce(services, func(p place) { wantAnswered(t, together(t, n, w.Client, p.Protocol, p.to()), not...) })
	}
	stop := longestStop(t)
	burst(9)
	if w.failoverMetric(t, rescuedTotal)+w.failoverMetric(t, ejectedTotal) > 0 {
		if stood := stop(); stood > 400*time.Millisecond {
			t.Skipf("a machine that stood still for %v: then endpoints did not answer for nearly a second", stood)
		}
		t.Error("endpoints that answer are not left alone")
	}
	silence(t, w.Remote, "", dead)
	burst(20, dead)
	w.ejections(t, len(services))
	top := w.run(t, append([]string{"top", "--once", "--interval", "100ms"}, w.args[1:]...)...)
	for _, p := range services {
		at := netip.AddrPortFrom(dead.Addr(p.Family), backendPort).String()
		if said := w.run(t, append([]string{"explain", "test/" + p.Name}, w.args[1:]...)...); !strings.Contains(said, "does not answer from this node (failover)") {
			t.Errorf("explain says nothing of %s:\n%s", at, said)
		}
		if !strings.Contains(top, at) {
			t.Errorf("top says nothing of %s:\n%s", at, top)
		}
	}
	w.run(t, append([]string{"diff"}, w.args[1:]...)...)
	if text := w.listRuleset(t); !strings.Contains(text, "map silent") {
		t.Errorf("nft does not list it:\n%s", text)
	}

	w.stop(t)
	w.start(t)
	began := time.Now()
	burst(20, dead)
	w.ejections(t, len(services))
	silence(t, w.Remote, "")
	atOnce(services, func(p place) { w.returns(t, p, dead) })
	if took := time.Since(began); took < 8*time.Second {
		t.Errorf("the endpoint was back after %v", took)
	}
	if n := w.failoverMetric(t, ejectedNow); n != 0 {
		t.Errorf("%d are still ejected", n)
	}
	w.run(t, append([]string{"diff"}, w.args[1:]...)...)
}

// returns waits until an endpoint gets connections again: more than one that tries it.
func (w *world) returns(t *testing.T, p place, host netns.Host) {
	results := map[netip.Addr]int{}
	deadline := time.Now().Add(patience)
	for results[host.Addr(p.Family)] < 2 {
		r := traffic.Client{NS: w.Client.NS, Timeout: patience}.Connect(t.Context(), p.Protocol, p.to())
		if r.Outcome != traffic.Answered {
			t.Errorf("%s over %s: %s", p.Protocol, p.Family, r)
		}
		if results[r.Backend.Addr()]++; time.Now().After(deadline) {
			t.Errorf("%s over %s: answers come from %v", p.Protocol, p.Family, results)
			return
		}
		<-time.After(10 * time.Millisecond) // a rate, not a wait for something
	}
}

// TestFailoverTrial: an endpoint that stays silent is tried by one connection at a time, also while others of its Service come
// and go, which writes the rule anew that tries it.
func TestFailoverTrial(t *testing.T) {
	t.Parallel()
	w := failoverWorld(t, 3)
	dead, other := w.RemotePods[1], w.RemotePods[2]
	services := w.places(t, "web", all()[:1], w.RemotePods)
	silence(t, w.Remote, "", dead)
	atOnce(services, func(p place) {
		wantAnswered(t, together(t, 12, w.Client, traffic.TCP, p.to()), dead)
	})
	w.ejections(t, len(services))
	before, stop := w.failoverMetric(t, rescuedTotal), longestStop(t)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		atOnce(services, func(p place) {
			wantAnswered(t, oneByOne(t, 240, 50*time.Millisecond, w.Client, traffic.TCP, p.to()), dead)
		})
	}()
	changes := 0
	for going := true; going; changes++ {
		for _, p := range services {
			if changes%2 == 0 {
				w.apply(t, p.svc.to(ready(w.RemotePods[0], dead), unready(other)))
			} else {
				w.apply(t, p.svc.to(ready(w.RemotePods...)))
			}
		}
		select {
		case <-ended:
			going = false
		case <-time.After(150 * time.Millisecond): // a rate, not a wait for something
		}
	}
	if n, stood := w.failoverMetric(t, rescuedTotal)-before, stop(); n > len(services) && stood > 400*time.Millisecond {
		t.Skipf("%d connections were freed, on a machine that stood still for %v: then endpoints did not answer for nearly a second", n, stood)
	} else if n != len(services) {
		t.Errorf("%d of 240 connections to each of %d services within 12 s, in which %d changes were made, were freed, want the one that tried", n, len(services), changes)
	}
}

// TestFailoverAll: where all endpoints are silent, none is ejected.
func TestFailoverAll(t *testing.T) {
	t.Parallel()
	w := failoverWorld(t, 4)
	services := w.places(t, "web", all(), w.RemotePods)
	atOnce(services, func(p place) { wantAnswered(t, together(t, 8, w.Client, p.Protocol, p.to())) }) // UDP needs to be known to answer
	silence(t, w.Remote, "", w.RemotePods...)
	atOnce(services, func(p place) {
		var wg sync.WaitGroup
		for range 40 {
			wg.Go(func() {
				if r := persistentFor(t, w.Client, p.Protocol, p.to(), 5*time.Second); r.Outcome != traffic.TimedOut {
					t.Errorf("%s over %s: %s", p.Protocol, p.Family, r)
				}
			})
		}
		wg.Wait()
	})
	// Some may have been ejected before it was known that all are silent: they are back then.
	eventually(t, "failover being suspended, and nothing ejected", func() error {
		if now := w.failoverMetrics(t, suspended, ejectedNow); now[0] != 1 || now[1] != 0 {
			return fmt.Errorf("suspended: %d, ejected: %d", now[0], now[1])
		}
		return nil
	})
}

// unlucky are ports of clients that an endpoint does not hear.
const unlucky, unluckyEnd = 20000, 29999

// mixed makes connections at a rate, every fourth of them from an unlucky port, so that each endpoint gets some of these in turn; and
// others until all of these have ended. It returns how the others ended: those may meet the same endpoint again and again.
func mixed(t *testing.T, n int, from netns.Host, to netip.AddrPort) (results []traffic.Result) {
	t.Helper()
	var mu sync.Mutex
	var wg sync.WaitGroup
	var waiting atomic.Int32
	for i := 0; i < n || waiting.Load() > 0; i++ {
		client := traffic.Client{NS: from.NS, Timeout: 2 * patience}
		slow := i < n && i%4 == 0
		if slow {
			client.Source, client.Timeout = netip.AddrPortFrom(netip.Addr{}, uint16(unlucky+i)), 5*time.Second
			waiting.Add(1)
		}
		wg.Go(func() {
			r := client.Connect(t.Context(), traffic.TCP, to)
			if slow {
				waiting.Add(-1)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			results = append(results, r)
		})
		<-time.After(40 * time.Millisecond) // a rate, not a wait for something
	}
	wg.Wait()
	return results
}

// TestFailoverSome: an endpoint that leaves more connections unanswered than the threshold, and answers others meanwhile, is not ejected:
// each of its slow ones, most of which another endpoint answers after two seconds, is one slow answer.
func TestFailoverSome(t *testing.T) {
	t.Parallel()
	w := failoverWorld(t, 3)
	services := w.places(t, "web", []traffic.Protocol{traffic.TCP}, w.RemotePods)
	atOnce(services, func(p place) { wantAnswered(t, together(t, 2*len(w.RemotePods), w.Client, p.Protocol, p.to())) })
	rescued, ejected := w.failoverMetric(t, rescuedTotal), w.failoverMetric(t, ejectedTotal)
	silence(t, w.Remote, fmt.Sprintf("tcp sport %d-%d", unlucky, unluckyEnd), w.RemotePods[0])
	stop := longestStop(t)
	atOnce(services, func(p place) { wantAnswered(t, mixed(t, 150, w.Client, p.to())) })
	const threshold = 3
	if n := w.failoverMetric(t, rescuedTotal) - rescued; n < 2*threshold*len(services) {
		t.Errorf("%d connections were freed of an endpoint that did not hear a twelfth of 300: that proves nothing", n)
	}
	n, stood := w.failoverMetric(t, ejectedTotal)-ejected, stop()
	switch {
	case n != 0 && stood > time.Second:
		t.Skipf("%d endpoints were ejected, on a machine that stood still for %v: meanwhile nobody asked for the answers that tell them from dead ones", n, stood)
	case n != 0:
		t.Errorf("%d endpoints that answer others are ejected for slow answers; the machine stood still for %v at most", n, stood)
	}
}

// TestFailoverSlow: endpoints that lose packets, or refuse, are not ejected.
func TestFailoverSlow(t *testing.T) {
	t.Parallel()
	w := failoverWorld(t, 3)
	services := w.places(t, "web", all(), w.RemotePods)
	// Neighbours are known before: while the kernel looks for one, and its question gets lost, nobody there answers for a second or two.
	atOnce(services, func(p place) { wantAnswered(t, together(t, 2*len(w.RemotePods), w.Client, p.Protocol, p.to())) })
	silence(t, w.Remote, "numgen random mod 5 == 0", w.RemotePods...)
	stop := longestStop(t)
	atOnce(services, func(p place) { wantAnswered(t, oneByOne(t, 150, 40*time.Millisecond, w.Client, p.Protocol, p.to())) })
	if n, stood := w.failoverMetric(t, ejectedTotal), stop(); n != 0 && stood > 400*time.Millisecond {
		t.Skipf("%d endpoints were ejected, on a machine that stood still for %v: then they did not answer for nearly a second", n, stood)
	} else if n != 0 {
		t.Errorf("%d endpoints that lose 20 %% of packets are ejected", n)
	}
	rescued := w.failoverMetric(t, rescuedTotal)
	t.Logf("%d of %d connections were freed where 20 %% of packets are lost", rescued, 150*len(services))

	silence(t, w.Remote, "")
	rescued = w.failoverMetric(t, rescuedTotal)
	for _, f := range netns.Families() {
		refuses := w.service(nameOf("refuses "+f.String()), only(f), port("", traffic.TCP, servicePort, backendPort+1)).to(ready(w.RemotePods...))
		w.apply(t, refuses)
		for range 12 {
			if r := (traffic.Client{NS: w.Client.NS}).Connect(t.Context(), traffic.TCP, refuses.at(f, servicePort)); r.Outcome != traffic.Refused {
				t.Errorf("%s", r)
			}
		}
	}
	if n := w.failoverMetric(t, ejectedTotal) + w.failoverMetric(t, rescuedTotal) - rescued; n != 0 {
		t.Errorf("endpoints that refuse: %d connections and endpoints were not left alone", n)
	}
}

// TestFailoverAffinity: a client that is remembered with an endpoint that falls silent gets another one.
func TestFailoverAffinity(t *testing.T) {
	t.Parallel()
	w := failoverWorld(t, 3)
	stop, slower := longestStop(t), ""
	for _, p := range w.places(t, "sticky", all(), w.RemotePods, sticky(10800)) {
		was := backendOf(t, w.Client, p.Protocol, p.to())
		for _, h := range w.RemotePods {
			if h.Addr(p.Family) != was.Addr() {
				continue
			}
			silence(t, w.Remote, "", h)
			first := wantAnswered(t, together(t, 1, w.Client, p.Protocol, p.to()), h) // one alone: nothing is ejected
			if n := w.failoverMetric(t, ejectedTotal); n != 0 {
				t.Errorf("%d endpoints are ejected", n)
			}
			if again := wantAnswered(t, together(t, 3, w.Client, p.Protocol, p.to()), h); again > first {
				slower = fmt.Sprintf("%s over %s: the client was answered after %v, and then after %v", p.Protocol, p.Family, first, again)
			}
			t.Logf("%s over %s: the client has another endpoint after %v", p.Protocol, p.Family, first)
		}
		backendOf(t, w.Client, p.Protocol, p.to())
		silence(t, w.Remote, "")
	}
	if stood := stop(); slower != "" && stood < 400*time.Millisecond {
		t.Errorf("%s, on a machine that stood still for %v at most", slower, stood)
	}
}

// TestFailoverPolicies: endpoints of the policy Local, NodePorts, where clients are masqueraded, and load balancers' addresses.
func TestFailoverPolicies(t *testing.T) {
	t.Parallel()
	w := failoverWorld(t, 3)
	hosts := append(append([]netns.Host{}, w.Local...), w.RemotePods...)
	local, dead := w.Local[0], w.RemotePods[0]
	silence(t, local, "", local)
	silence(t, w.Remote, "", dead)
	families := netns.Families()
	for _, p := range traffic.Protocols() {
		for name, policy := range map[string]option{"cluster": clusterWide, "local": externalLocal} {
			s := w.full(nameOf(name+" "+p.String()), policy).to(ready(hosts...))
			w.apply(t, s)
			for _, fe := range []frontend{clusterIP, nodePort, loadBalancer, externalIP} {
				atOnce(families[:], func(f netns.Family) {
					wantAnswered(t, together(t, 6, w.Outside, p, w.address(s, fe, p, f)), local, dead)
				})
			}
			w.remove(t, s)
		}
	}
}

// TestFailoverBurst: a thousand connections at once, a hundred of SCTP. A third of them meets a silent endpoint. Once that is ejected all that
// wait for it are freed at once, so that each is freed once or twice, and nobody waits long.
func TestFailoverBurst(t *testing.T) {
	t.Parallel()
	w := failoverWorld(t, 3)
	dead := w.RemotePods[2]
	silence(t, w.Remote, "", dead)
	for _, p := range all() {
		for _, s := range w.places(t, "web", []traffic.Protocol{p}, w.RemotePods) {
			n := 1000
			if p == traffic.SCTP {
				n = 100 // each has a raw socket here, which hears the packets of all
			}
			before, stop := w.failoverMetric(t, rescuedTotal), longestStop(t)
			longest := wantAnswered(t, together(t, n, w.Client, p, s.to()), dead)
			freed, stood := w.failoverMetric(t, rescuedTotal)-before, stop()
			t.Logf("%s over %s: the last of %d was answered after %v; %d were freed; the machine stood still for %v at most", p, s.Family, n, longest, freed, stood)
			if freed == 0 || freed > n {
				t.Errorf("%s over %s: %d of %d connections were freed, of which a third met a silent endpoint", p, s.Family, freed, n)
			}
			if longest > patience && stood < time.Second {
				t.Errorf("%s over %s: the last of %d was answered after %v, want %v at most", p, s.Family, n, longest, patience)
			}
			w.remove(t, s.svc) // what is ejected of it counts no more
		}
	}
}

// TestFailoverRestart: connections that wait for a silent endpoint while nftproxy does not run are rescued when it starts, whether it was
// stopped or killed.
func TestFailoverRestart(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*testing.T, *world){"stopped": func(t *testing.T, w *world) { w.stop(t) }, "killed": func(_ *testing.T, w *world) { w.nftproxy.Kill() }} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := failoverWorld(t, 3)
			services := w.places(t, "web", all(), w.RemotePods)
			dead := w.RemotePods[1]
			atOnce(services, func(p place) { wantAnswered(t, together(t, 3, w.Client, p.Protocol, p.to())) })
			silence(t, w.Remote, "", dead)
			end(t, w)
			const each = 9 // a third of them waits
			var answered atomic.Int32
			results := make([][each]traffic.Result, len(services))
			var wg sync.WaitGroup
			for i, p := range services {
				for j := range each {
					wg.Go(func() {
						results[i][j] = persistentFor(t, w.Client, p.Protocol, p.to(), 4*patience)
						answered.Add(1)
					})
				}
			}
			eventually(t, "answers of all others", func() error {
				if n := answered.Load(); n < int32(len(services)*each*2/3) {
					return fmt.Errorf("%d", n)
				}
				return nil
			})
			w.start(t)
			wg.Wait()
			for i := range results {
				wantAnswered(t, results[i][:], dead)
			}
			if n := w.failoverMetric(t, rescuedTotal); n < 2*each/3 { // TCP's; SCTP's client begins anew by itself, and may go elsewhere
				t.Errorf("%d connections were freed", n)
			}
		})
	}
}

// TestFailoverOneWay: UDP that nobody ever answers is not meant to be answered. Its flows stay where they are.
func TestFailoverOneWay(t *testing.T) {
	t.Parallel()
	w := failoverWorld(t, 3)
	silence(t, w.Remote, "", w.RemotePods...)
	atOnce(w.places(t, "syslog", []traffic.Protocol{traffic.UDP}, w.RemotePods), func(p place) {
		if r := persistentFor(t, w.Client, p.Protocol, p.to(), 5*time.Second); r.Outcome != traffic.TimedOut {
			t.Errorf("over %s: %s", p.Family, r)
		}
	})
	if n := w.failoverMetric(t, rescuedTotal) + w.failoverMetric(t, ejectedTotal); n != 0 {
		t.Errorf("%d flows were freed and endpoints ejected", n)
	}
}

// TestFailoverMetrics: with --service-metrics the metrics say which Service's connections were rescued, and without it they do not.
func TestFailoverMetrics(t *testing.T) {
	t.Parallel()
	for _, flag := range []string{"", "--service-metrics"} {
		t.Run("flag "+flag, func(t *testing.T) {
			t.Parallel()
			var args []string
			if flag != "" {
				args = []string{flag}
			}
			w := failoverWorld(t, 3, args...)
			s := w.service("web", port("http", traffic.TCP, servicePort, backendPort)).to(ready(w.RemotePods...))
			w.apply(t, s)
			silence(t, w.Remote, "", w.RemotePods[1])
			wantAnswered(t, together(t, 12, w.Client, traffic.TCP, s.at(netns.IPv4, servicePort)), w.RemotePods[1])
			w.ejections(t, 1)
			if n := w.failoverMetric(t, rescuedTotal); n == 0 {
				t.Error("no connection was rescued")
			}
			text := w.metrics(t)
			for _, name := range []string{"nftproxy_service_rescued_total", "nftproxy_service_ejected_total"} {
				const labels = `{namespace="test",port="http",service="web"} `
				if got := strings.Contains(text, "\n"+name+labels); got != (flag != "") || !got && strings.Contains(text, "\n"+name) {
					t.Errorf("%s: %s%s is there: %v", flag, name, labels, got)
				}
			}
		})
	}
}
