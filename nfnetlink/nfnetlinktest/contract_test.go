// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nfnetlinktest_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/nfnetlink"
	"github.com/nftproxy/nftproxy/nfnetlink/nfnetlinktest"
)

func TestMain(m *testing.M) { os.Exit(netns.Main(m.Run)) }

const (
	nft = unix.NFNL_SUBSYS_NFTABLES << 8
	// eventGroup is NFNLGRP_NFTABLES.
	eventGroup = 7
	tableName  = "t"
	// chains in the table are so many that their dump takes several datagrams.
	chains = 1000
)

// end is one of the two ends that must behave alike.
type end struct {
	*nfnetlink.Socket
	// other makes a table, as somebody else.
	other func(t *testing.T, name string)
	// narrow returns a socket with room for few answers.
	narrow func(t *testing.T) *nfnetlink.Socket
}

// forBoth runs a test over the kernel and over the double, each with a table of many chains.
func forBoth(t *testing.T, test func(t *testing.T, e end)) {
	t.Run("kernel", func(t *testing.T) {
		e := kernel(t)
		e.fill(t)
		test(t, e)
	})
	t.Run("double", func(t *testing.T) {
		e := double()
		e.fill(t)
		test(t, e)
	})
}

// kernel is the real one, in a namespace of the test's own.
func kernel(t *testing.T) end {
	t.Helper()
	ns, err := netns.New(t.Name())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ns.Close() })
	open := func(t *testing.T, o nfnetlink.Options) *nfnetlink.Socket {
		t.Helper()
		var s *nfnetlink.Socket
		if err := ns.Do(func() (err error) { s, err = nfnetlink.Open(o); return err }); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		return s
	}
	e := end{Socket: open(t, nfnetlink.Options{ReceiveBuffer: 1 << 20})}
	e.other = func(t *testing.T, name string) {
		t.Helper()
		transact(t, open(t, nfnetlink.Options{}), func(b *nfnetlink.Builder) { newTable(b, name) })
	}
	e.narrow = func(t *testing.T) *nfnetlink.Socket {
		t.Helper()
		return open(t, nfnetlink.Options{ReceiveBuffer: 1})
	}
	return e
}

// double is a kernel that has the table and says so.
func double() end {
	k, s := nfnetlinktest.New(func(m nfnetlink.Message) nfnetlinktest.Answer {
		name := ""
		for typ, v := range m.Attributes() {
			if typ == unix.NFTA_TABLE_NAME { // or NFTA_CHAIN_TABLE, which is the same
				name = v.Text()
			}
		}
		switch m.Type {
		case nft | unix.NFT_MSG_GETCHAIN:
			entry := request(unix.NFT_MSG_NEWCHAIN, 0, tableName).Buf
			a := nfnetlinktest.Answer{}
			for range chains {
				a.Entries = append(a.Entries, entry)
			}
			return a
		case nft | unix.NFT_MSG_GETTABLE, nft | unix.NFT_MSG_NEWCHAIN:
			if name != tableName {
				return nfnetlinktest.Answer{Err: &nfnetlink.Error{Errno: unix.ENOENT, Offset: nfnetlink.HeaderLen}}
			}
			if m.Type == nft|unix.NFT_MSG_GETTABLE {
				return nfnetlinktest.Answer{Entries: [][]byte{request(unix.NFT_MSG_NEWTABLE, 0, tableName).Buf}}
			}
		}
		return nfnetlinktest.Answer{}
	})
	e := end{Socket: s}
	e.other = func(_ *testing.T, name string) {
		k.Event(eventGroup, request(unix.NFT_MSG_NEWTABLE, 0, name).Buf)
	}
	e.narrow = func(*testing.T) *nfnetlink.Socket {
		k.Room(2)
		return s
	}
	return e
}

// fill makes the table with its chains.
func (e end) fill(t *testing.T) {
	t.Helper()
	transact(t, e.Socket, func(b *nfnetlink.Builder) {
		newTable(b, tableName)
		for i := range chains {
			newChain(b, tableName, fmt.Sprint("chain", i))
		}
	})
}

// request is a message about a table.
func request(typ, flags uint16, table string) *nfnetlink.Builder {
	b := nfnetlink.Request(nft|typ, flags, unix.NFPROTO_IPV4)
	b.Str(unix.NFTA_TABLE_NAME, table)
	b.End()
	return b
}

func newTable(b *nfnetlink.Builder, name string) {
	b.Message(nft|unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE|unix.NLM_F_ACK, unix.NFPROTO_IPV4, 0)
	b.Str(unix.NFTA_TABLE_NAME, name)
	b.End()
}

func newChain(b *nfnetlink.Builder, table, name string) {
	b.Message(nft|unix.NFT_MSG_NEWCHAIN, unix.NLM_F_CREATE, unix.NFPROTO_IPV4, 0)
	b.Str(unix.NFTA_CHAIN_TABLE, table)
	b.Str(unix.NFTA_CHAIN_NAME, name)
	b.End()
}

// batch puts messages between a batch's begin and end.
func batch(fill func(b *nfnetlink.Builder)) []byte {
	b := &nfnetlink.Builder{}
	b.Message(unix.NFNL_MSG_BATCH_BEGIN, 0, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES)
	b.End()
	fill(b)
	b.Message(unix.NFNL_MSG_BATCH_END, 0, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES)
	b.End()
	return b.Buf
}

// transact carries messages out that must not be refused.
func transact(t *testing.T, s *nfnetlink.Socket, fill func(b *nfnetlink.Builder)) {
	t.Helper()
	acked, lost, err := s.Transact(batch(fill), func(i int, e *nfnetlink.Error) { t.Errorf("message %d: %v", i, e) })
	if !acked || lost || err != nil {
		t.Fatalf("acknowledged: %t, lost: %t, error %v", acked, lost, err)
	}
}

// TestContract holds the double and the kernel to what callers rely on.
func TestContract(t *testing.T) {
	for name, test := range map[string]func(t *testing.T, e end){
		"an answer and its acknowledgement": func(t *testing.T, e end) {
			wantTable(t, e)
		},
		"a refusal": func(t *testing.T, e end) {
			err := e.Ask(t.Context(), request(unix.NFT_MSG_GETTABLE, unix.NLM_F_ACK, "none"), nil)
			refused := (*nfnetlink.Error)(nil)
			if !errors.As(err, &refused) || refused.Errno != unix.ENOENT || refused.Offset != nfnetlink.HeaderLen {
				t.Errorf("error %#v, want ENOENT at the first attribute", err)
			}
		},
		"answers in the order of requests": func(t *testing.T, e end) {
			b := request(unix.NFT_MSG_GETTABLE, unix.NLM_F_ACK, tableName)
			b.Buf = append(b.Buf, request(unix.NFT_MSG_GETTABLE, unix.NLM_F_ACK, "none").Buf...)
			b.Buf = append(b.Buf, request(unix.NFT_MSG_GETTABLE, unix.NLM_F_ACK, tableName).Buf...)
			var got []string
			err := e.Exchange(t.Context(), b.Buf, func(nfnetlink.Message) { got = append(got, "entry") },
				func(i int, err error) { got = append(got, fmt.Sprint(i, errors.Is(err, unix.ENOENT))) })
			want := []string{"entry", "0 false", "1 true", "entry", "2 false"}
			if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("%v (%v), want %v", got, err, want)
			}
		},
		"a dump in several datagrams": func(t *testing.T, e end) {
			wantChains(t, e)
		},
		"a dump that was not read to its end": testUnfinished,
		"answers that nobody read": func(t *testing.T, e end) {
			for range 3 {
				must(t, e.Send(request(unix.NFT_MSG_GETTABLE, unix.NLM_F_ACK, "none").Buf))
			}
			wantTable(t, e)
		},
		"nothing is there": func(t *testing.T, e end) {
			if n, err := e.Transport.Receive(make([]byte, 100), false); !errors.Is(err, unix.EAGAIN) {
				t.Errorf("received %d bytes (%v), want EAGAIN", n, err)
			}
			if ready, err := e.Wait(t.Context(), 0); ready || err != nil {
				t.Errorf("ready: %t (%v)", ready, err)
			}
		},
		"a datagram that is too large": func(t *testing.T, e end) {
			must(t, e.Send(request(unix.NFT_MSG_GETTABLE, 0, tableName).Buf))
			var small [8]byte
			if n, err := e.Transport.Receive(small[:], false); n <= len(small) || err != nil {
				t.Errorf("length %d (%v), want that of the whole datagram", n, err)
			}
			wantTable(t, e)
		},
		"more answers than fit":             testLost,
		"a refused message in a batch":      testRefused,
		"events of a group":                 testEvents,
		"a wait that ends with its context": testWait,
		"a closed socket": func(t *testing.T, e end) {
			must(t, e.Close())
			if err := e.Ask(t.Context(), request(unix.NFT_MSG_GETTABLE, unix.NLM_F_ACK, tableName), nil); !errors.Is(err, unix.EBADF) {
				t.Errorf("error %v, want EBADF", err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) { forBoth(t, test) })
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wantTable asks for the table.
func wantTable(t *testing.T, e end) {
	t.Helper()
	entries := 0
	err := e.Ask(t.Context(), request(unix.NFT_MSG_GETTABLE, unix.NLM_F_ACK, tableName), func(m nfnetlink.Message) {
		if m.Type == nft|unix.NFT_MSG_NEWTABLE && m.Family() == unix.NFPROTO_IPV4 {
			entries++
		}
	})
	if err != nil || entries != 1 {
		t.Errorf("%d tables (%v), want 1", entries, err)
	}
}

// wantChains dumps the chains.
func wantChains(t *testing.T, e end) {
	t.Helper()
	entries := 0
	err := e.Ask(t.Context(), request(unix.NFT_MSG_GETCHAIN, unix.NLM_F_DUMP, tableName), func(m nfnetlink.Message) {
		if m.Flags&unix.NLM_F_MULTI != 0 {
			entries++
		}
	})
	if err != nil || entries != chains {
		t.Errorf("%d chains (%v), want %d", entries, err, chains)
	}
}

// testUnfinished: a second dump is refused until the first was read, which the socket does by itself.
func testUnfinished(t *testing.T, e end) {
	dump := request(unix.NFT_MSG_GETCHAIN, unix.NLM_F_DUMP, tableName).Buf
	must(t, e.Send(dump))
	must(t, e.Send(dump))
	busy := 0
	for more := true; more; {
		var err error
		more, err = e.Receive(false, func(m nfnetlink.Message) {
			if m.Type == unix.NLMSG_ERROR && m.Err().Errno == unix.EBUSY {
				busy++
			}
		})
		must(t, err)
	}
	if busy != 1 {
		t.Errorf("%d dumps were refused, want 1", busy)
	}
	ctx, cancel := context.WithCancel(t.Context())
	err := e.Ask(ctx, request(unix.NFT_MSG_GETCHAIN, unix.NLM_F_DUMP, tableName), func(nfnetlink.Message) { cancel() })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want that of the context", err)
	}
	wantChains(t, e)
}

// testLost: ENOBUFS tells once of answers that did not fit, before those that did. The next request works.
func testLost(t *testing.T, e end) {
	e.Socket = e.narrow(t)
	many := &nfnetlink.Builder{}
	for range 200 {
		many.Buf = append(many.Buf, request(unix.NFT_MSG_GETTABLE, unix.NLM_F_ACK, "none").Buf...)
	}
	must(t, e.Send(many.Buf))
	if ready, err := e.Wait(t.Context(), 0); !ready || err != nil {
		t.Errorf("ready: %t (%v)", ready, err)
	}
	if _, err := e.Receive(false, func(nfnetlink.Message) {}); !errors.Is(err, unix.ENOBUFS) {
		t.Errorf("error %v, want ENOBUFS", err)
	}
	got := 0
	for more := true; more; {
		var err error
		more, err = e.Receive(false, func(nfnetlink.Message) { got++ })
		must(t, err)
	}
	if got == 0 || got >= 200 {
		t.Errorf("%d answers fitted", got)
	}
	if err := e.Exchange(t.Context(), many.Buf, nil, func(int, error) {}); !errors.Is(err, unix.ENOBUFS) {
		t.Errorf("error %v, want ENOBUFS", err)
	}
	e.Drain()
	err := e.Ask(t.Context(), request(unix.NFT_MSG_GETTABLE, unix.NLM_F_ACK, "none"), nil)
	if !errors.Is(err, unix.ENOENT) {
		t.Errorf("afterwards: %v, want ENOENT", err)
	}
}

// testRefused: each refused message of a batch has its error, and what was left over from earlier requests is not among them.
func testRefused(t *testing.T, e end) {
	must(t, e.Send(request(unix.NFT_MSG_GETTABLE, unix.NLM_F_ACK, "none").Buf))
	var got []int
	_, lost, err := e.Transact(batch(func(b *nfnetlink.Builder) {
		newTable(b, tableName)
		newChain(b, "none", "a")
		newChain(b, tableName, "b")
		newChain(b, "none", "c")
	}), func(i int, e *nfnetlink.Error) {
		if e.Errno != unix.ENOENT || e.Offset != nfnetlink.HeaderLen {
			t.Errorf("message %d: %#v", i, e)
		}
		got = append(got, i)
	})
	if err != nil || lost || fmt.Sprint(got) != "[2 4]" {
		t.Errorf("refused %v (%v), want 2 and 4", got, err)
	}
}

// testEvents: they come to members.
func testEvents(t *testing.T, e end) {
	e.other(t, "before")
	must(t, e.Join(eventGroup))
	e.other(t, "during")
	if ready, err := e.Wait(t.Context(), -1); !ready || err != nil {
		t.Errorf("ready: %t (%v)", ready, err)
	}
	must(t, e.Leave(eventGroup))
	e.other(t, "after")
	var got []string
	for more := true; more; {
		var err error
		more, err = e.Receive(false, func(m nfnetlink.Message) {
			if m.Type != nft|unix.NFT_MSG_NEWTABLE {
				return
			}
			for typ, v := range m.Attributes() {
				if typ == unix.NFTA_TABLE_NAME {
					got = append(got, v.Text())
				}
			}
		})
		must(t, err)
	}
	if fmt.Sprint(got) != "[during]" {
		t.Errorf("events about %v, want during", got)
	}
}

// testWait: a context ends a wait.
func testWait(t *testing.T, e end) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		_, err := e.Wait(ctx, -1)
		done <- err
	}()
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
