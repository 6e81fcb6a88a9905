// SPDX-License-Identifier: Apache-2.0

//go:build linux

package traffic

import (
	"context"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/netns/netnstest"
)

func TestMain(m *testing.M) { os.Exit(netns.Main(m.Run)) }

func TestUnprivileged(t *testing.T) {
	netnstest.AsOrdinaryUser(t, "TestDirect", "TestTranslation", "TestReject")
}

// serve answers at a host's address, in each family and protocol, until the test ends.
func serve(t *testing.T, h netns.Host, port uint16) *Server {
	t.Helper()
	all := Protocols()
	s, err := Serve(h.NS, Endpoints([]netip.Addr{h.V4, h.V6}, []uint16{port}, all[:]...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// each runs a subtest for every protocol over every family.
func each(t *testing.T, test func(t *testing.T, p Protocol, f netns.Family)) {
	t.Helper()
	for _, p := range Protocols() {
		for _, f := range netns.Families() {
			t.Run(p.String()+" "+f.String(), func(t *testing.T) { test(t, p, f) })
		}
	}
}

// wantAnswer makes a connection that the backend must answer, having seen the
// given address: with the client's own port, if that is the client's own address.
func wantAnswer(t *testing.T, from netns.Host, p Protocol, to, backend netip.AddrPort, seen netip.Addr) {
	t.Helper()
	r := Client{NS: from.NS}.Connect(context.Background(), p, to)
	if r.Outcome != Answered {
		t.Errorf("from %s to %s %s: %s", from.Name(), p, to, r)
		return
	}
	if r.Backend != backend {
		t.Errorf("from %s to %s %s: backend %s, want %s", from.Name(), p, to, r.Backend, backend)
	}
	if own := r.Local.Addr() == seen; r.Peer.Addr() != seen || own && r.Peer != r.Local {
		t.Errorf("from %s at %s to %s %s: the backend saw %s, want %s", from.Name(), r.Local, p, to, r.Peer, seen)
	}
}

// wantRefusal makes a connection that must be refused at once, where its protocol can be.
func wantRefusal(t *testing.T, from netns.Host, p Protocol, to netip.AddrPort) {
	t.Helper()
	client := Client{NS: from.NS}
	want := Refusal(p, to.Addr())
	if want == TimedOut {
		client = short(from.NS)
	}
	r := client.Connect(context.Background(), p, to)
	if r.Outcome != want {
		t.Errorf("from %s to %s %s: %s, want %s by the first packet", from.Name(), p, to, r, want)
	}
}

func short(n *netns.NS) Client { return Client{NS: n, Timeout: 100 * time.Millisecond} }
