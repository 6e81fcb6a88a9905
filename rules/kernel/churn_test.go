// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/google/nftables"

	"github.com/nftproxy/nftproxy/rules"
)

// churn changes nftables as another program does that never rests, until the test ends. It returns how
// many commits there were.
func (h host) churn(t *testing.T, change func(c *nftables.Conn, i int)) (commits func() int) {
	t.Helper()
	c, err := nftables.New(nftables.WithNetNSFd(h.ns.Fd()), nftables.AsLasting())
	if err != nil {
		t.Fatal(err)
	}
	stop, done := make(chan struct{}), make(chan struct{})
	n := make(chan int, 1)
	n <- 0
	go func() {
		defer close(done)
		defer func() { _ = c.CloseLasting() }()
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			change(c, i)
			if err := c.Flush(); err != nil {
				t.Errorf("change nftables as another program: %v", err)
				return
			}
			n <- <-n + 1
		}
	}()
	t.Cleanup(func() { close(stop); <-done })
	return func() int { i := <-n; n <- i; return i }
}

// TestReadWhileOthersChange reads while other tables of the same family change all the time: chains that
// come and go there move ours in the kernel's list.
func TestReadWhileOthersChange(t *testing.T) {
	h := newHost(t)
	theirs := &nftables.Table{Name: "another", Family: nftables.TableFamilyIPv4}
	h.foreign(t, func(c *nftables.Conn) { c.AddTable(theirs) }) // before ours in the list
	d := desired(services(rules.IPv4, 3000, 3)...)
	h.load(t, d.State())
	commits := h.churn(t, func(c *nftables.Conn, i int) {
		chain := &nftables.Chain{Table: theirs, Name: fmt.Sprint("chain-", i/2%50)}
		if i%2 == 0 {
			c.AddChain(chain)
		} else {
			c.DelChain(chain)
		}
	})
	for range 10 {
		before, start := commits(), time.Now()
		have := h.read(t, rules.DefaultTable)
		if n := commits() - before; n < 2 {
			t.Logf("only %d commits of others during a reading", n)
		} else {
			t.Logf("%d commits of others during a reading of %s", n, time.Since(start))
		}
		wantSame(t, have, d.State())
	}
	d.Update(services(rules.IPv4, 100, 5))
	h.load(t, d.State()) // as a successor adopts it
	wantSame(t, h.read(t, rules.DefaultTable), d.State())
}

// TestReadWhileOursIsChanged never takes a reading for whole during which the table itself was changed.
func TestReadWhileOursIsChanged(t *testing.T) {
	h := newHost(t)
	d := desired(services(rules.IPv4, 1000, 3)...)
	h.load(t, d.State())
	a, b := []byte{10, 200, 0, 1}, []byte{10, 200, 0, 2}
	clusterIPs := &nftables.Set{Table: tableIP4(), Name: "cluster-ips"}
	masquerade := &nftables.Set{Table: tableIP4(), Name: "hairpin"}
	must2 := func(c *nftables.Conn, add, del []byte) {
		must(c.SetAddElements(clusterIPs, []nftables.SetElement{{Key: add}}))
		must(c.SetAddElements(masquerade, []nftables.SetElement{{Key: append(append([]byte(nil), add...), add...)}}))
		if del != nil {
			must(c.SetDeleteElements(clusterIPs, []nftables.SetElement{{Key: del}}))
			must(c.SetDeleteElements(masquerade, []nftables.SetElement{{Key: append(append([]byte(nil), del...), del...)}}))
		}
	}
	h.foreign(t, func(c *nftables.Conn) { must2(c, a, nil) })
	h.churn(t, func(c *nftables.Conn, i int) {
		if i%2 == 0 {
			must2(c, b, a)
		} else {
			must2(c, a, b)
		}
	})
	read := 0
	for range 10 {
		s, err := h.Read(rules.DefaultTable)
		if err != nil {
			continue // it kept changing
		}
		read++
		for _, ip := range [][]byte{a, b} {
			k := rules.Key{Addr: netip.AddrFrom4([4]byte(ip))}
			_, one := s.Tables[rules.IPv4].Sets[rules.SetID{Kind: rules.ClusterIPs}][k]
			_, other := s.Tables[rules.IPv4].Sets[rules.SetID{Kind: rules.Hairpin}][k]
			if one != other {
				t.Errorf("%v is in one set and not in the other, though each commit changes both", ip)
			}
		}
	}
	t.Logf("%d of 10 readings", read)
}
