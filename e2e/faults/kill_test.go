// SPDX-License-Identifier: Apache-2.0

//go:build linux

package faults

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"

	"github.com/nftproxy/nftproxy/e2e/netns/netnstest"
	"github.com/nftproxy/nftproxy/rules"
)

const killRow = "kill -9"

// TestKill kills nftproxy at random moments of its first second, and starts it again.
func TestKill(t *testing.T) {
	kills := Amount(3, 20, 160)
	w := newWorld(t)
	w.put(0, w.pod(0), w.pod(2))
	w.put(1, w.pod(1))
	w.start()
	l := w.load(0, 1)
	var right time.Duration
	for i := range kills {
		time.Sleep(rand.N(300 * time.Millisecond))
		w.nftproxy.Kill()
		w.put(2, w.pod(i)) // what it has to do when it comes back
		w.launch()
	}
	begin := time.Now()
	w.must(w.nftproxy.WaitSynced(w.patient()))
	right = time.Since(begin)
	w.must(l.GoOn(w.patient(), 100))
	counts := l.End()
	w.equal()
	Record(t, Result{Row: killRow, Fault: fmt.Sprintf("%d times, up to 0.3 s after its start, with a change to program", kills), Counts: counts, Right: right})
}

// manyText is a manifest of Services with one endpoint, or two.
func manyText(services int) []byte {
	var b strings.Builder
	for i := range services {
		fmt.Fprintf(&b, `{"apiVersion":"v1","kind":"Service","metadata":{"namespace":"many","name":"s%[1]d"},"spec":{"clusterIP":"10.96.%[2]d.%[3]d","ports":[{"port":80}]}}
---
{"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","metadata":{"namespace":"many","name":"s%[1]d","labels":{"kubernetes.io/service-name":"s%[1]d"}},
"addressType":"IPv4","ports":[{"port":8080}],"endpoints":[{"addresses":["10.128.%[2]d.%[3]d"]},{"addresses":["10.129.%[2]d.%[3]d"]},{"addresses":["10.130.%[2]d.%[3]d"]}]}
---
`, i, 16+i/250, 1+i%250)
	}
	return []byte(b.String())
}

// mostLoading is how long TestKillLoading tries to be in the middle of a load: each try takes a second, and 20 s beside much else.
const mostLoading = 15 * time.Minute

// TestKillLoading kills nftproxy in the middle of a full load: thousands of Services come, or go, while it is away.
func TestKillLoading(t *testing.T) {
	kills, services := Amount(1, 4, 40), Amount(1500, 10_000, 10_000)
	w := newWorld(t)
	w.put(0, w.pod(0), w.pod(2))
	w.put(1, w.pod(1))
	w.start()
	come := false
	turn := func() {
		come = !come
		text := []byte("\n")
		if come {
			text = manyText(services)
		}
		w.must(w.manifests.Write("many.yaml", text))
	}
	few := elements(w.state())
	turn()
	w.programmed()
	most := elements(w.state())
	starts := w.startTransactions()
	l := w.load(0, 1)
	conn := w.conn()
	amid, tried := 0, 0
	began := time.Now()
	for ; amid < kills && tried < 3*kills && time.Since(began) < mostLoading; tried++ {
		w.nftproxy.Kill()
		turn()
		before := w.generation(conn)
		w.launch()
		w.begun(func() bool { return w.generation(conn)-before > starts })
		w.nftproxy.Kill()
		if n, edge := elements(w.state()), (most-few)/20; n > few+edge && n < most-edge {
			amid++
		}
	}
	w.launch()
	begin := time.Now()
	w.must(w.nftproxy.WaitSynced(w.patient()))
	right := time.Since(begin)
	counts := l.End()
	w.equal()
	if some := Amount(0, 1, kills); amid < some { // a busy machine is late for some, and few Services take one transaction
		t.Errorf("of %d kills only %d were in the middle of a load, in %v", tried, amid, time.Since(began).Round(time.Second))
	}
	Record(t, Result{Row: killRow, Fault: fmt.Sprintf("%d times in the middle of a load of %d Services that came or went", amid, services), Counts: counts, Right: right,
		Note: fmt.Sprintf("%d kills besides, before or after the load", tried-amid)})
}

// begun waits until the first of several transactions is in, or all of them. It leaves the processor to nftproxy meanwhile. On a machine
// that is too busy for that it gives up; then the kill comes before the load.
func (w *world) begun(first func() bool) {
	w.t.Helper()
	for ctx := w.patient(); ctx.Err() == nil && !first() && !strings.Contains(w.nftproxy.Log(), "Programmed all services"); {
		time.Sleep(time.Millisecond)
	}
}

// startTransactions says how many transactions a start has without anything to program: the lock's, and those that take the
// tables over.
func (w *world) startTransactions() uint32 {
	w.t.Helper()
	conn := w.conn()
	w.nftproxy.Kill()
	before := w.generation(conn)
	w.launch()
	w.must(w.nftproxy.WaitSynced(w.patient()))
	return w.generation(conn) - before
}

// conn opens the node's nftables for what package kernel does not do.
func (w *world) conn() *nftables.Conn {
	w.t.Helper()
	return netnstest.LastingNFTables(w.t, w.Node.NS)
}

// generation says how many transactions there were.
func (w *world) generation(c *nftables.Conn) uint32 {
	w.t.Helper()
	g, err := c.GetGen()
	w.must(err)
	return g.ID
}

// elements counts those of all sets.
func elements(s rules.State) (n int) {
	for _, t := range s.Tables {
		if t == nil {
			continue
		}
		for _, set := range t.Sets {
			n += len(set)
		}
	}
	return n
}
