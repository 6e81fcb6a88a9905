// SPDX-License-Identifier: Apache-2.0

//go:build linux

package scale

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/kernel"
)

// foreignPace is how often the other program changes our tables.
const foreignPace = time.Second / 300

// BenchmarkForeign says how much slower changes of Services are while another program adds an element to our tables and
// takes it away, 300 times a second.
func BenchmarkForeign(b *testing.B) {
	n := newNode(b)
	n.load(large)
	change := func(i int) time.Duration {
		start := time.Now()
		n.replaceEndpoint(i/2%large.services, large, i%2 == 1)
		for aboutClusterIPs(n.transaction()) { // a repair
		}
		return time.Since(start)
	}
	var quiet, foreign []time.Duration
	for i := range 1000 {
		quiet = append(quiet, change(i))
	}
	stop := n.disturb()
	i := 0
	for b.Loop() {
		foreign = append(foreign, change(i))
		i++
	}
	stop()
	report(b, foreign)
	b.ReportMetric(mean(foreign)/mean(quiet), "ratio")
	n.close()
}

// mean is what counts: most changes are made between two repairs.
func mean(all []time.Duration) float64 {
	var sum time.Duration
	for _, d := range all {
		sum += d
	}
	return float64(sum) / float64(len(all))
}

func aboutClusterIPs(tx rules.Tx) bool {
	return !slices.ContainsFunc(tx.Ops(), func(o rules.Op) bool { return o.Set.Kind != rules.ClusterIPs })
}

// disturb lets another program change our tables until stop is called.
func (n *node) disturb() (stop func()) {
	var k *kernel.Kernel
	if err := n.ns.Do(func() (err error) { k, err = kernel.Open(); return err }); err != nil {
		n.b.Fatal(err)
	}
	end, done := make(chan struct{}), make(chan struct{})
	element := []rules.Element{{Key: rules.Key{Addr: netip.MustParseAddr("192.0.2.1")}}}
	go func() {
		defer close(done)
		tick := time.NewTicker(foreignPace)
		defer tick.Stop()
		for i := 0; ; i++ {
			select {
			case <-end:
				return
			case <-tick.C:
			}
			kind := rules.AddElements
			if i%2 == 1 {
				kind = rules.DeleteElements
			}
			tx := rules.Tx{Name: rules.DefaultTable}
			tx.Add(rules.Op{Kind: kind, Set: rules.SetID{Kind: rules.ClusterIPs}, Elements: element})
			_ = k.Apply(tx) // refused when it was repaired meanwhile
		}
	}()
	return func() {
		close(end)
		<-done
		if err := k.Close(); err != nil {
			n.b.Error(err)
		}
	}
}
