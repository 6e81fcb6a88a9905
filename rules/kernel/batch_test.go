// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"fmt"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/nfnetlink"
	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/rulestest"
	"github.com/nftproxy/nftproxy/rules/wire"
)

// commits returns how many transactions the namespace has seen.
func (h host) commits(t testing.TB) int {
	t.Helper()
	n, _, err := h.others()
	if err != nil {
		t.Fatal(err)
	}
	return int(n)
}

// TestCutBatches makes random changes with room for a few messages in a batch.
func TestCutBatches(t *testing.T) {
	for _, limit := range []int{1, 500, 2000, 4000} {
		t.Run(fmt.Sprint(limit), func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			h.limit = limit
			d := desired()
			ops := rules.Diff(rules.State{}, d.State())
			before := h.commits(t)
			h.apply(t, ops)
			if n := h.commits(t) - before; n < 2 || n > ops.Len() {
				t.Errorf("%d operations in %d batches", ops.Len(), n)
			}
			w := rulestest.NewWorld(uint64(limit))
			for range 20 {
				h.apply(t, d.Update(w.Step()))
			}
			wantState(t, "after 20 changes", h.read(t, rules.DefaultTable), d.State())
		})
	}
}

// TestBatchLimit puts as much into each batch as it can hold, and no more.
func TestBatchLimit(t *testing.T) {
	const batches, perBatch = 10, 300
	h := newHost(t)
	h.load(t, desired().State())
	var add, del rules.Tx
	add.Name, del.Name = rules.DefaultTable, rules.DefaultTable
	for i := range batches * perBatch {
		op := rules.Op{Kind: rules.AddElements, Set: clusterIPs, Elements: []rules.Element{{Key: rules.Key{Addr: address(rules.IPv4, 96, i)}}}}
		add.Add(op)
		op.Kind = rules.DeleteElements
		del.Add(op)
	}
	exact := h.size(t, add.Ops()[:perBatch])
	for limit, want := range map[int]int{exact: batches, exact - 1: batches + 1} {
		h.limit = limit
		before := h.commits(t)
		h.apply(t, add)
		if got := h.commits(t) - before; got != want {
			t.Errorf("%d batches with a limit of %d bytes, want %d", got, limit, want)
		}
		if got := len(h.read(t, add.Name).Tables[rules.IPv4].Sets[clusterIPs]); got != batches*perBatch {
			t.Errorf("%d elements, want %d", got, batches*perBatch)
		}
		h.apply(t, del)
	}
}

// size returns how many bytes a batch of operations takes.
func (h host) size(t *testing.T, ops []rules.Op) int {
	t.Helper()
	var b wire.Batch
	b.Begin(rules.DefaultTable)
	for i := range ops {
		if err := b.Add(&ops[i], func() error { return nil }); err != nil {
			t.Fatal(err)
		}
	}
	b.Seal()
	return len(b.Buf)
}

// TestLargeTransaction loads more than fits the send buffer that an ordinary user
// gets where the system has its default limits.
func TestLargeTransaction(t *testing.T) {
	const n = 1000
	for name, buffer := range map[string]int{"own buffer": 0, "small buffer": 212992} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			if buffer > 0 {
				room, err := h.sock.SendRoom(buffer)
				if err != nil {
					t.Fatal(err)
				}
				h.limit = room
			}
			d := desired()
			h.load(t, d.State())
			tx := d.Update(append(services(rules.IPv4, n, 10), services(rules.IPv6, n, 10)...))
			before := h.commits(t)
			h.apply(t, tx)
			batches := h.commits(t) - before
			switch {
			case buffer > 0 && batches < 2:
				t.Errorf("%d batches, with room for %d bytes in each", batches, h.limit)
			case buffer == 0 && !netns.InUserNamespace() && batches != 2:
				t.Errorf("%d batches as root, want 2", batches)
			}
			wantSame(t, h.read(t, tx.Name), d.State())
			t.Logf("%d elements in %d batches of at most %d bytes", tx.Elements(), batches, h.limit)
		})
	}
}

// TestLongElementLists replaces and deletes more elements than a message holds.
func TestLongElementLists(t *testing.T) {
	const n = 1300
	for _, f := range rules.Families {
		t.Run(f.String(), func(t *testing.T) {
			h := newHost(t)
			d := desired(service(f, 0, 0, n))
			h.load(t, d.State())
			for _, next := range []rules.Owned{service(f, 0, n, 2*n), service(f, 0, 0, 0)} {
				tx := d.Update([]rules.Owned{next})
				h.apply(t, tx)
				wantState(t, fmt.Sprintf("after %d elements changed", tx.Elements()), h.read(t, tx.Name), d.State())
			}
		})
	}
}

// TestOperationsStayWhole looks at what the kernel tells of each commit: a chain
// whose rules change, or an element whose value does, is never without.
func TestOperationsStayWhole(t *testing.T) {
	h := newHost(t)
	d := desired(append(services(rules.IPv4, 30, 3), services(rules.IPv6, 30, 3)...)...)
	h.load(t, d.State())
	events := listen(t, h)

	h.limit = 1 // each operation is a batch
	var next []rules.Owned
	for i := range 30 {
		next = append(next, service(rules.IPv4, i, 2, 6), service(rules.IPv6, i, 1, 4))
	}
	tx := d.Update(next)
	h.apply(t, tx)
	h.apply(t, rules.Diff(h.read(t, tx.Name), desired().State())) // chains go, with their rules

	whole := map[string][]int{}
	for _, types := range commitEvents(t, events) {
		count := map[uint16]int{}
		for _, typ := range types {
			count[typ]++
		}
		switch {
		case count[unix.NFT_MSG_DELCHAIN] > 0:
			whole["delete chain"] = append(whole["delete chain"], count[unix.NFT_MSG_DELRULE]-count[unix.NFT_MSG_DELCHAIN])
		case count[unix.NFT_MSG_DELRULE] > 0:
			whole["replace chain"] = append(whole["replace chain"], count[unix.NFT_MSG_DELRULE]-count[unix.NFT_MSG_NEWRULE])
		case count[unix.NFT_MSG_DELSETELEM] > 0 && count[unix.NFT_MSG_NEWSETELEM] > 0:
			whole["replace elements"] = append(whole["replace elements"], count[unix.NFT_MSG_DELSETELEM]-count[unix.NFT_MSG_NEWSETELEM])
		}
	}
	for what, want := range map[string]int{"delete chain": 60, "replace chain": 30, "replace elements": 60} {
		if len(whole[what]) != want {
			t.Errorf("%s: %d commits, want %d", what, len(whole[what]), want)
		}
		for _, difference := range whole[what] {
			if difference != 0 {
				t.Errorf("%s: %d more things deleted than added", what, difference)
			}
		}
	}
}

// listen opens a socket that gets the namespace's events.
func listen(t *testing.T, h host) *nfnetlink.Socket {
	t.Helper()
	k := open(t, h.ns)
	if err := k.sock.Join(nftablesGroup); err != nil {
		t.Fatal(err)
	}
	return k.sock
}

// commitEvents returns the types of the events that have come, commit by commit.
// They are there when the commit returns.
func commitEvents(t *testing.T, s *nfnetlink.Socket) [][]uint16 {
	t.Helper()
	var commits [][]uint16
	var types []uint16
	for {
		more, err := s.Receive(false, func(m nfnetlink.Message) {
			if typ := m.Type & 0xff; typ != unix.NFT_MSG_NEWGEN {
				types = append(types, typ)
				return
			}
			commits = append(commits, types)
			types = nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if !more {
			return commits
		}
	}
}

// TestRefusedLaterBatch reports what a later batch could not do; the earlier ones
// stay.
func TestRefusedLaterBatch(t *testing.T) {
	h := newHost(t)
	h.load(t, desired().State())
	h.limit = 3000
	var list []rules.Op
	for i := range 100 {
		list = append(list, rules.Op{Kind: rules.AddChain, Chain: rules.Chain{Name: fmt.Sprintf("service/a/b/%d", i)}})
	}
	list = append(list, rules.Op{Kind: rules.AddSet, Set: singleSet}) // it comes first
	err := wantRefused(t, h.Apply(transaction(list...)), unix.EEXIST, "to add set single of table ip nftproxy: file exists (EEXIST)")
	if !err.Untouched {
		t.Error("the first batch was refused, and yet the kernel is not untouched")
	}
	wantState(t, "after the first batch was refused", h.read(t, rules.DefaultTable), desired().State())

	list[100] = rules.Op{Kind: rules.AddElements, Set: clusterIPs, Elements: []rules.Element{{}}}
	list[100].Elements[0].Addr = address(rules.IPv4, 96, 1)
	h.apply(t, transaction(list[100]))
	err = wantRefused(t, h.Apply(transaction(list...)), unix.EEXIST, "to add element of ip nftproxy cluster-ips: 10.96.0.1: file exists (EEXIST)")
	if err.Untouched {
		t.Error("the last batch was refused, and yet the kernel is untouched")
	}
	if n := len(h.read(t, rules.DefaultTable).Tables[rules.IPv4].Chains); n < 50 {
		t.Errorf("%d chains after the last batch was refused", n)
	}
	h.load(t, desired().State())
	wantState(t, "after the repair", h.read(t, rules.DefaultTable), desired().State())
}

// TestResetIsOneTransaction replaces a table in one commit, though others of its length are cut.
func TestResetIsOneTransaction(t *testing.T) {
	if netns.InUserNamespace() {
		t.Skip("the send buffer is small without CAP_NET_ADMIN in the initial user namespace")
	}
	h := newHost(t)
	const n = 1500
	h.load(t, desired(services(rules.IPv4, n, 10)...).State())
	want := desired(services(rules.IPv4, n, 10)...).State()
	want.Tables[rules.IPv4].Counted = true
	before := h.commits(t)
	h.load(t, want)
	if n := h.commits(t) - before; n != 1 {
		t.Errorf("%d commits, want 1", n)
	}
	wantSame(t, h.read(t, want.Name), want)
	if cap(h.batch.Buf) > 2*maxBatch {
		t.Errorf("%d bytes are kept", cap(h.batch.Buf))
	}
	if err := h.sock.Send(make([]byte, 2*maxBatch)); !errors.Is(err, unix.EMSGSIZE) {
		t.Errorf("the send buffer stays large: a datagram of twice the largest batch is sent (%v)", err)
	}
}
