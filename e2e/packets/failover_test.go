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
