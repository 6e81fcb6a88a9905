// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"runtime"
	"testing"
	"time"

	"github.com/google/nftables"

	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/nfnetlink"
	"github.com/nftproxy/nftproxy/rules"
)

// patience is how long a test waits for what must happen at once.
var patience = netns.Patience()

func (h host) watch(t *testing.T) *Watch {
	t.Helper()
	var w *Watch
	err := h.ns.Do(func() (err error) { w, err = h.Watch(rules.DefaultTable); return err })
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Join(); err != nil {
		t.Fatal(err)
	}
	return w
}

func closeWatch(t *testing.T, w *Watch) {
	t.Helper()
	done := make(chan error)
	go func() { done <- w.Close() }()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Fatal("the watch did not end")
	}
}

func wantChanged(t *testing.T, w *Watch, what string) {
	t.Helper()
	select {
	case <-w.Changed():
	case <-time.After(patience):
		t.Fatalf("%s: nothing was told", what)
	}
}

// TestWatch wakes for what others change in our tables.
func TestWatch(t *testing.T) {
	h := newHost(t)
	h.load(t, desired(services(rules.IPv4, 2, 3)...).State())
	w := h.watch(t)
	defer closeWatch(t, w)
	ip4 := tableIP4()
	ip6 := &nftables.Table{Name: ip4.Name, Family: nftables.TableFamilyIPv6}
	for _, step := range []struct {
		what   string
		change func(c *nftables.Conn)
	}{
		{"element added", func(c *nftables.Conn) {
			must(c.SetAddElements(&nftables.Set{Table: ip4, Name: "cluster-ips"}, []nftables.SetElement{{Key: []byte{10, 96, 9, 9}}}))
		}},
		{"chain added", func(c *nftables.Conn) { c.AddChain(&nftables.Chain{Table: ip6, Name: "theirs"}) }},
		{"set added", func(c *nftables.Conn) {
			must(c.AddSet(&nftables.Set{Table: ip4, Name: "theirs", KeyType: nftables.TypeMark}, nil))
		}},
		{"rule added", func(c *nftables.Conn) { jump(c, "services", "no-endpoints") }},
		{"rules deleted", func(c *nftables.Conn) { c.FlushChain(&nftables.Chain{Table: ip6, Name: "output"}) }},
		{"table switched off", func(c *nftables.Conn) {
			c.AddTable(&nftables.Table{Name: ip4.Name, Family: ip4.Family, Flags: nftables.TableFlagDormant})
		}},
		{"table deleted", func(c *nftables.Conn) { c.DelTable(ip4) }},
		{"everything deleted", func(c *nftables.Conn) { c.FlushRuleset() }},
		{"table added", func(c *nftables.Conn) { c.AddTable(ip6) }},
	} {
		h.foreign(t, step.change)
		wantChanged(t, w, step.what)
		w.settle(t)
		for len(w.changed) > 0 { // a large change comes in several parts
			<-w.changed
		}
	}
}

// TestWatchSleeps through what we change ourselves and what others change elsewhere.
func TestWatchSleeps(t *testing.T) {
	h := newHost(t)
	d := desired()
	h.load(t, d.State())
	w := h.watch(t)
	defer closeWatch(t, w)
	// A thousand services: their events come in many parts.
	h.apply(t, d.Update(append(services(rules.IPv4, 1000, 3), services(rules.IPv6, 100, 1)...)))
	h.apply(t, d.Update([]rules.Owned{service(rules.IPv4, 7, 1, 5), service(rules.IPv4, 8, 0, 0)}))
	if _, err := h.Remove(rules.DefaultTable); err != nil {
		t.Fatal(err)
	}
	other := host{open(t, h.ns), h.ns}
	other.load(t, rules.NewDesired(rules.Config{Table: rules.DefaultTable + "2"}, rules.Node{}).State())
	if _, err := other.Remove(rules.DefaultTable + "2"); err != nil {
		t.Fatal(err)
	}
	w.settle(t)
	if len(w.changed) > 0 {
		t.Error("it woke for our own or another table's change")
	}
	other.apply(t, transaction(rules.Op{Kind: rules.AddTable}))
	wantChanged(t, w, "table added by another socket of ours")
}

// TestWatchLateJoin wakes for what others changed after the tables were read.
func TestWatchLateJoin(t *testing.T) {
	h := newHost(t)
	d := desired()
	h.load(t, d.State())
	h.apply(t, d.Update(services(rules.IPv4, 10, 3)))
	quiet := h.watch(t)
	defer closeWatch(t, quiet)
	quiet.settle(t)
	if len(quiet.changed) > 0 {
		t.Error("it woke though nobody else had changed anything")
	}
	h.foreign(t, func(c *nftables.Conn) { c.FlushRuleset() })
	late := h.watch(t)
	defer closeWatch(t, late)
	wantChanged(t, late, "everything deleted")
}

// settle waits until all events up to the last commit have been looked at.
func (w *Watch) settle(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; runtime.Gosched() {
		if ready, err := w.sock.Wait(t.Context(), 0); err == nil && !ready {
			w.mu.Lock() // until what was received has been told of
			defer w.mu.Unlock()
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("events were not read")
		}
	}
}

// TestWatchLosesEvents wakes when so much happened that the kernel dropped events.
func TestWatchLosesEvents(t *testing.T) {
	h := newHost(t)
	w := &Watch{table: rules.DefaultTable, changed: make(chan struct{}, 1)}
	err := h.ns.Do(func() (err error) { w.sock, err = nfnetlink.Open(nfnetlink.Options{ReceiveBuffer: 1}); return err })
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	w.stop = stop
	defer closeWatch(t, w)
	if err := w.sock.Join(nftablesGroup); err != nil {
		t.Fatal(err)
	}
	d := rules.NewDesired(rules.Config{Table: "other"}, rules.Node{})
	h.load(t, d.State())
	h.apply(t, d.Update(services(rules.IPv4, 500, 3)))
	w.done.Go(func() { w.run(ctx) }) // only now does it begin to read
	wantChanged(t, w, "events that did not fit the buffer")
}

func TestWatchCloseAtOnce(t *testing.T) {
	h := newHost(t)
	for range 20 {
		closeWatch(t, h.watch(t))
	}
}

// TestWatchLeaves while much is written, and tells of what others changed meanwhile.
func TestWatchLeaves(t *testing.T) {
	h := newHost(t)
	d := desired()
	h.load(t, d.State())
	w := h.watch(t)
	defer closeWatch(t, w)
	tx := d.Update(services(rules.IPv4, 2000, 3))
	if tx.Elements() < muchWork {
		t.Fatalf("only %d elements", tx.Elements())
	}
	others, err := w.leave()
	if err != nil {
		t.Fatal(err)
	}
	h.foreign(t, func(c *nftables.Conn) { c.AddChain(&nftables.Chain{Table: tableIP4(), Name: "theirs"}) })
	w.settle(t)
	if len(w.changed) > 0 {
		t.Error("it told of a change while it was away")
	}
	if err := w.rejoin(others); err != nil {
		t.Fatal(err)
	}
	wantChanged(t, w, "chain added while it was away")
	h.apply(t, tx)
	w.settle(t)
	if len(w.changed) > 0 {
		t.Error("it woke for our own change")
	}
	h.foreign(t, func(c *nftables.Conn) { c.FlushRuleset() })
	wantChanged(t, w, "everything deleted after it was back")
}
