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
	text := w.metrics(t)
	m := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(name) + ` ([0-9]+)$`).FindStringSubmatch(text)
	if m == nil {
		t.Fatalf("no metric %s in:\n%s", name, text)
	}
	n, _ := strconv.Atoi(m[1])
	return n
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
	client := traffic.Client{NS: from.NS, Timeout: patience}
	if p == traffic.TCP {
		return client.Connect(t.Context(), p, to)
	}
	start := time.Now()
	client.Timeout = 500 * time.Millisecond
	conn, err := client.Open(t.Context(), p, to)
	if err != nil {
		return traffic.Result{Outcome: traffic.Failed, Err: err}
	}
	defer conn.Close()
	for {
		r := conn.Ask(t.Context())
		if r.Elapsed = time.Since(start); r.Outcome == traffic.Answered || r.Elapsed > patience {
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

// tcpPort gives a service one TCP port.
func tcpPort() option { return port("", traffic.TCP, servicePort, backendPort) }

// oneByOne makes connections, each begun some time after the one before, and returns how they ended.
func oneByOne(t *testing.T, n int, pause time.Duration, from netns.Host, to netip.AddrPort) []traffic.Result {
	t.Helper()
	results := make([]traffic.Result, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { results[i] = persistent(t, from, traffic.TCP, to) })
		<-time.After(pause) // a rate, not a wait for something
	}
	wg.Wait()
	return results
}

// TestFailoverMiddle: an endpoint falls silent while connections come, and comes back. nftproxy starts anew meanwhile.
func TestFailoverMiddle(t *testing.T) {
	t.Parallel()
	w := failoverWorld(t, 3)
	dead, f := w.RemotePods[1], netns.IPv4
	s := w.service("web", only(f), tcpPort()).to(ready(w.RemotePods...))
	w.apply(t, s)
	to := s.at(f, servicePort)
	if longest := wantAnswered(t, together(t, 9, w.Client, traffic.TCP, to)); w.failoverMetric(t, rescuedTotal)+w.failoverMetric(t, ejectedTotal) > 0 {
		t.Errorf("endpoints that answer (within %v) are not left alone", longest)
	}
	silence(t, w.Remote, "", dead)
	wantAnswered(t, together(t, 20, w.Client, traffic.TCP, to), dead)
	eventually(t, "an ejection", func() error {
		if n := w.failoverMetric(t, ejectedNow); n != 1 {
			return fmt.Errorf("%d are ejected", n)
		}
		return nil
	})
	if said := w.run(t, append([]string{"explain", "test/web"}, w.args[1:]...)...); !strings.Contains(said, "does not answer from this node (failover)") {
		t.Errorf("explain says nothing of it:\n%s", said)
	}
	if said := w.run(t, append([]string{"top", "--once", "--interval", "100ms"}, w.args[1:]...)...); !strings.Contains(said, dead.V4.String()+":8080") {
		t.Errorf("top says nothing of it:\n%s", said)
	}
	w.run(t, append([]string{"diff"}, w.args[1:]...)...)
	if text := w.listRuleset(t); !strings.Contains(text, "map silent") {
		t.Errorf("nft does not list it:\n%s", text)
	}

	w.stop(t)
	w.start(t)
	wantAnswered(t, together(t, 20, w.Client, traffic.TCP, to), dead)
	eventually(t, "an ejection by the next nftproxy", func() error {
		if n := w.failoverMetric(t, ejectedNow); n != 1 {
			return fmt.Errorf("%d are ejected", n)
		}
		return nil
	})
	began := time.Now()
	silence(t, w.Remote, "")
	results := map[netip.Addr]int{}
	eventually(t, "that the endpoint is back", func() error {
		r := traffic.Client{NS: w.Client.NS, Timeout: patience}.Connect(t.Context(), traffic.TCP, to)
		if r.Outcome != traffic.Answered {
			t.Errorf("%s", r)
		}
		if results[r.Backend.Addr()]++; results[dead.V4] < 2 {
			return fmt.Errorf("answers come from %v", results)
		}
		return nil
	})
	if took := time.Since(began); took < 8*time.Second {
		t.Errorf("the endpoint was back after %v", took)
	}
	if n := w.failoverMetric(t, ejectedNow); n != 0 {
		t.Errorf("%d are still ejected", n)
	}
	w.run(t, append([]string{"diff"}, w.args[1:]...)...)
}

// TestFailoverTrial: an endpoint that stays silent is tried by one connection at a time.
func TestFailoverTrial(t *testing.T) {
	t.Parallel()
	w := failoverWorld(t, 2)
	dead, f := w.RemotePods[1], netns.IPv4
	s := w.service("web", only(f), tcpPort()).to(ready(w.RemotePods...))
	w.apply(t, s)
	silence(t, w.Remote, "", dead)
	to := s.at(f, servicePort)
	wantAnswered(t, together(t, 12, w.Client, traffic.TCP, to), dead)
	eventually(t, "an ejection", func() error {
		if n := w.failoverMetric(t, ejectedNow); n != 1 {
			return fmt.Errorf("%d are ejected", n)
		}
		return nil
	})
	before := w.failoverMetric(t, rescuedTotal)
	slow := 0
	for _, r := range oneByOne(t, 240, 50*time.Millisecond, w.Client, to) {
		if wantAnswered(t, []traffic.Result{r}, dead) > 900*time.Millisecond {
			slow++
		}
	}
	if n := w.failoverMetric(t, rescuedTotal) - before; n != 1 {
		t.Errorf("%d of 240 connections within 12 s were freed, %d were slow: want the one that tried", n, slow)
	}
}

// TestFailoverAll: where all endpoints are silent, none is ejected.
func TestFailoverAll(t *testing.T) {
	t.Parallel()
	w := failoverWorld(t, 4)
	s := w.service("web", only(netns.IPv4), tcpPort()).to(ready(w.RemotePods...))
	w.apply(t, s)
	silence(t, w.Remote, "", w.RemotePods...)
	var wg sync.WaitGroup
	for range 40 {
		wg.Go(func() {
			r := traffic.Client{NS: w.Client.NS, Timeout: 5 * time.Second}.Connect(t.Context(), traffic.TCP, s.at(netns.IPv4, servicePort))
			if r.Outcome != traffic.TimedOut {
				t.Errorf("%s", r)
			}
		})
	}
	wg.Wait()
	if out, sus := w.failoverMetric(t, ejectedNow), w.failoverMetric(t, suspended); out != 0 || sus != 1 {
		t.Errorf("%d of 4 silent endpoints are ejected, suspended: %d", out, sus)
	}
}

// TestFailoverSlow: endpoints that lose packets, answer late, or refuse, are not ejected.
func TestFailoverSlow(t *testing.T) {
	t.Parallel()
	w := failoverWorld(t, 3)
	s := w.service("web", only(netns.IPv4), tcpPort()).to(ready(w.RemotePods...))
	refuses := w.service("refuses", only(netns.IPv4), port("", traffic.TCP, servicePort, backendPort+1)).to(ready(w.RemotePods...))
	w.apply(t, s, refuses)
	to := s.at(netns.IPv4, servicePort)
	silence(t, w.Remote, "numgen random mod 5 == 0", w.RemotePods...)
	wantAnswered(t, oneByOne(t, 300, 20*time.Millisecond, w.Client, to))
	if n := w.failoverMetric(t, ejectedTotal); n != 0 {
		t.Errorf("%d endpoints that lose 20 %% of packets are ejected", n)
	}
	rescued := w.failoverMetric(t, rescuedTotal)
	t.Logf("%d of 300 connections were freed where 20 %% of packets are lost", rescued)

	silence(t, w.Remote, "tcp flags syn limit rate 1/hour burst 2 packets", w.RemotePods[0]) // its first answer comes after 2 s
	wantAnswered(t, oneByOne(t, 30, 100*time.Millisecond, w.Client, to))
	if n := w.failoverMetric(t, ejectedTotal); n != 0 {
		t.Errorf("%d endpoints are ejected for one slow answer", n)
	}
	silence(t, w.Remote, "")
	rescued = w.failoverMetric(t, rescuedTotal)
	for range 12 {
		if r := (traffic.Client{NS: w.Client.NS}).Connect(t.Context(), traffic.TCP, refuses.at(netns.IPv4, servicePort)); r.Outcome != traffic.Refused {
			t.Errorf("%s", r)
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
	for _, f := range netns.Families() {
		s := w.service(nameOf("sticky "+f.String()), only(f), tcpPort(), sticky(10800)).to(ready(w.RemotePods...))
		w.apply(t, s)
		to := s.at(f, servicePort)
		was := backendOf(t, w.Client, traffic.TCP, to)
		for _, h := range w.RemotePods {
			if h.Addr(f) != was.Addr() {
				continue
			}
			silence(t, w.Remote, "", h)
			first := wantAnswered(t, together(t, 1, w.Client, traffic.TCP, to), h) // one alone: nothing is ejected
			if n := w.failoverMetric(t, ejectedTotal); n != 0 {
				t.Errorf("%d endpoints are ejected", n)
			}
			if again := wantAnswered(t, together(t, 3, w.Client, traffic.TCP, to), h); again > first {
				t.Errorf("the client was answered after %v, and then after %v", first, again)
			}
			t.Logf("over %s: the client has another endpoint after %v", f, first)
		}
		backendOf(t, w.Client, traffic.TCP, to)
		silence(t, w.Remote, "")
	}
}

// TestFailoverPolicies: endpoints of the policy Local, NodePorts and load balancers' addresses.
func TestFailoverPolicies(t *testing.T) {
	t.Parallel()
	w := failoverWorld(t, 3)
	all := append(append([]netns.Host{}, w.Local...), w.RemotePods...)
	local, dead := w.Local[0], w.RemotePods[0]
	silence(t, local, "", local)
	silence(t, w.Remote, "", dead)
	for _, p := range traffic.Protocols() {
		cluster := w.full(nameOf("cluster " + p.String())).to(ready(all...))
		w.apply(t, cluster)
		for _, fe := range []frontend{clusterIP, nodePort, loadBalancer, externalIP} {
			wantAnswered(t, together(t, 5, w.Outside, p, w.address(cluster, fe, p, netns.IPv4)), local, dead)
		}
		w.remove(t, cluster)
		here := w.full(nameOf("local "+p.String()), externalLocal).to(ready(all...))
		w.apply(t, here)
		for _, fe := range []frontend{clusterIP, nodePort, loadBalancer, externalIP} {
			wantAnswered(t, together(t, 6, w.Outside, p, w.address(here, fe, p, netns.IPv4)), local, dead)
		}
		w.remove(t, here)
	}
}

// TestFailoverBurst: a thousand connections at once.
func TestFailoverBurst(t *testing.T) {
	t.Parallel()
	w := failoverWorld(t, 3)
	silence(t, w.Remote, "", w.RemotePods[2])
	s := w.service("web", only(netns.IPv4), tcpPort()).to(ready(w.RemotePods...))
	w.apply(t, s)
	longest := wantAnswered(t, together(t, 1000, w.Client, traffic.TCP, s.at(netns.IPv4, servicePort)), w.RemotePods[2])
	t.Logf("the last of 1,000 was answered after %v; %d were freed", longest, w.failoverMetric(t, rescuedTotal))
}

// TestFailoverOneWay: UDP that nobody ever answers is not meant to be answered. Its flows stay where they are.
func TestFailoverOneWay(t *testing.T) {
	t.Parallel()
	w := failoverWorld(t, 3)
	silence(t, w.Remote, "", w.RemotePods...)
	s := w.service("syslog", only(netns.IPv4), port("", traffic.UDP, servicePort, backendPort)).to(ready(w.RemotePods...))
	w.apply(t, s)
	client := traffic.Client{NS: w.Client.NS, Timeout: 200 * time.Millisecond}
	conn, err := client.Open(t.Context(), traffic.UDP, s.at(netns.IPv4, servicePort))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for range 20 {
		conn.Ask(t.Context())
	}
	if n := w.failoverMetric(t, rescuedTotal) + w.failoverMetric(t, ejectedTotal); n != 0 {
		t.Errorf("%d flows were freed and endpoints ejected", n)
	}
}
