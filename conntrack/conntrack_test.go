// SPDX-License-Identifier: Apache-2.0

package conntrack

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/nfnetlink"
	"github.com/nftproxy/nftproxy/rules"
)

// from sets the client's port, so that flows with the same frontend differ.
func from(f Flow, port uint16) Flow {
	client := netip.AddrPortFrom(f.Orig.Src.Addr(), port)
	f.Orig.Src, f.Reply.Dst = client, client
	return f
}

// table is a mix of flows to one frontend and its near misses.
func table() []Flow {
	var out []Flow
	for i, proto := range []rules.Protocol{rules.UDP, rules.TCP, rules.SCTP} {
		for j, dst := range []string{
			"10.96.0.10:53", "10.96.0.10:54", "10.96.0.11:53",
			"[fd00:96::10]:53", "[fd00:96::10]:54", "[fd00:96::11]:53",
		} {
			to := "10.2.0.1:5353"
			if ap(dst).Addr().Is6() {
				to = "[fd00:2::1]:5353"
			}
			port := uint16(1000 + 100*i + 10*j)
			out = append(out, from(flow(proto, dst, to), port), from(answered(flow(proto, dst, to)), port+1))
		}
	}
	return out
}

// names returns flows as sorted text, without what only the kernel knows.
func names(flows []Flow) []string {
	var out []string
	for _, f := range flows {
		out = append(out, fmt.Sprintf("%s %s, answer seen: %t", f, f.Reply.Dst, f.Status&StatusSeenReply != 0))
	}
	slices.Sort(out)
	return out
}

// everything returns all flows of the namespace.
func everything(tb testing.TB, c *Conn) []Flow {
	tb.Helper()
	var out []Flow
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.dumpWith(tb.Context(), dumpRequest(query{}), query{}, func(f Flow) { out = append(out, f) }); err != nil {
		tb.Fatal(err)
	}
	return out
}

func wantFlows(t *testing.T, what string, got, want []Flow) {
	t.Helper()
	if g, w := names(got), names(want); !slices.Equal(g, w) {
		t.Errorf("%s:\ngot  %q\nwant %q", what, g, w)
	}
}

func selected(flows []Flow, keep func(Flow) bool) []Flow {
	return slices.DeleteFunc(slices.Clone(flows), func(f Flow) bool { return !keep(f) })
}

func TestList(t *testing.T) {
	c := open(t)
	inject(t, c, 0, table()...)
	for _, proto := range []rules.Protocol{rules.UDP, rules.TCP, rules.SCTP} {
		for _, dst := range []string{"10.96.0.10:53", "[fd00:96::10]:53", "10.96.0.12:53", "0.0.0.0:53", "[::]:53"} {
			f := front(proto, dst)
			got, err := c.List(t.Context(), f)
			if err != nil {
				t.Fatal(err)
			}
			wantFlows(t, proto.String()+" "+dst, got, selected(table(), func(flow Flow) bool {
				a := flow.Orig.Dst.Addr()
				return flow.Protocol == proto && flow.Orig.Dst.Port() == f.Port &&
					(a == f.Addr || f.Addr.IsUnspecified() && a.Is4() == f.Addr.Is4())
			}))
		}
	}
	got, err := c.List(t.Context(), rules.Frontend{Protocol: rules.UDP, Port: 54})
	if err != nil {
		t.Fatal(err)
	}
	wantFlows(t, "any address", got, selected(table(), func(f Flow) bool { return f.Protocol == rules.UDP && f.Orig.Dst.Port() == 54 }))
}

// Without the kernel's part a dump is right as well, but copies the whole table.
func TestKernelFilters(t *testing.T) {
	c := open(t)
	inject(t, c, 0, table()...)
	for name, row := range map[string]struct {
		query query
		want  int
		more  int // that kernels before 5.15 send besides, which do not filter by status
	}{
		"udp":             {query{unix.AF_INET, rules.UDP, netip.MustParseAddr("10.96.0.10"), 53, false}, 2, 0},
		"tcp, unanswered": {query{unix.AF_INET, rules.TCP, netip.MustParseAddr("10.96.0.10"), 53, true}, 1, 1},
		"ipv6":            {query{unix.AF_INET6, rules.UDP, netip.MustParseAddr("fd00:96::10"), 53, false}, 4, 0}, // any address
		"sctp":            {query{unix.AF_INET, rules.SCTP, netip.MustParseAddr("10.96.0.10"), 53, false}, 4, 0},  // any port
		"protocol":        {query{unix.AF_INET, rules.UDP, netip.Addr{}, 0, false}, 6, 0},
		"port":            {query{unix.AF_INET, rules.UDP, netip.Addr{}, 54, false}, 2, 0},
	} {
		t.Run(name, func(t *testing.T) {
			copied := 0
			err := c.socket.Ask(t.Context(), filteredDumpRequest(row.query).Builder, func(nfnetlink.Message) { copied++ })
			if err != nil {
				t.Fatal(err)
			}
			if copied != row.want && !(copied == row.want+row.more && olderThan(t, 5, 15)) {
				t.Errorf("the kernel sent %d entries, want %d", copied, row.want)
			}
		})
	}
}

// olderThan says whether the kernel is older than a version.
func olderThan(t *testing.T, major, minor int) bool {
	t.Helper()
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		t.Fatal(err)
	}
	var has [2]int
	if _, err := fmt.Sscanf(unix.ByteSliceToString(name.Release[:]), "%d.%d", &has[0], &has[1]); err != nil {
		t.Fatal(err)
	}
	return slices.Compare(has[:], []int{major, minor}) < 0
}

// The kernel takes no tuple filter without a family, and so refuses this query.
func TestListWhereKernelRefusesFilter(t *testing.T) {
	c := open(t)
	inject(t, c, 0, table()...)
	q := query{proto: rules.UDP, port: 53, unanswered: true}
	err := c.socket.Ask(t.Context(), filteredDumpRequest(q).Builder, func(nfnetlink.Message) {})
	if !errors.Is(err, unix.EOPNOTSUPP) {
		t.Errorf("the filter is not refused: %v", err)
	}
	var got []Flow
	if err := c.dump(t.Context(), q, func(f Flow) { got = append(got, f) }); err != nil {
		t.Fatal(err)
	}
	wantFlows(t, "without the kernel's filter", got, selected(table(), q.matches))
	if len(got) != 4 {
		t.Errorf("%d flows, want 4", len(got))
	}
}

func TestDelete(t *testing.T) {
	c := open(t)
	inject(t, c, 0, table()...)
	for _, dst := range []string{"10.96.0.10:53", "[fd00:96::10]:53"} {
		listed, err := c.List(t.Context(), front(rules.UDP, dst))
		if err != nil || len(listed) != 2 {
			t.Fatalf("listed %d flows, want 2: %v", len(listed), err)
		}
		if n, err := c.Delete(t.Context(), listed); n != 2 || err != nil {
			t.Errorf("deleted %d, want 2: %v", n, err)
		}
		if n, err := c.Delete(t.Context(), listed); n != 0 || err != nil {
			t.Errorf("deleted %d that are gone: %v", n, err)
		}
	}
	wantFlows(t, "left", everything(t, c), selected(table(), func(f Flow) bool {
		a := f.Orig.Dst
		return f.Protocol != rules.UDP || a != ap("10.96.0.10:53") && a != ap("[fd00:96::10]:53")
	}))
}

// An entry with another ID stands for one that came later with the same tuple.
func TestDeleteLeavesSuccessor(t *testing.T) {
	c := open(t)
	inject(t, c, 0, table()[0])
	before := everything(t, c)
	before[0].ID++
	if n, err := c.Delete(t.Context(), before); n != 0 || err != nil {
		t.Errorf("deleted %d, want 0: %v", n, err)
	}
	wantFlows(t, "left", everything(t, c), before)
	before[0].ID = 0
	if n, err := c.Delete(t.Context(), before); n != 1 || err != nil {
		t.Errorf("deleted %d without an ID, want 1: %v", n, err)
	}
}

// A deletion without a tuple would empty the whole table.
func TestDeleteRefusesIncompleteFlow(t *testing.T) {
	c := open(t)
	inject(t, c, 0, table()...)
	mixed := table()[0]
	mixed.Orig.Src = ap("[fd00::1]:5")
	for _, f := range []Flow{{}, {Protocol: rules.UDP}, mixed} {
		n, err := c.Delete(t.Context(), []Flow{f})
		if errno := unix.Errno(0); n != 0 || err == nil || errors.As(err, &errno) {
			t.Errorf("%s: deleted %d, want an error before the kernel is asked: %v", f, n, err)
		}
	}
	if got := len(everything(t, c)); got != len(table()) {
		t.Errorf("%d entries left of %d", got, len(table()))
	}
}

// in puts a flow into zones. Where they differ it is answered at another port, as two flows' answers in one zone
// must differ.
func in(f Flow, orig, reply uint16) Flow {
	f.Zones = Zones{orig, reply}
	if orig != reply {
		f.Reply.Dst = netip.AddrPortFrom(f.Reply.Dst.Addr(), 10*f.Reply.Dst.Port()+orig)
	}
	return f
}

// zoned has flows that only their zones tell apart, in both families: stale ones for any endpoint but
// 10.2.0.1 and fd00:2::1, and to those.
func zoned() (stale, good []Flow) {
	for _, a := range [][3]string{{"10.96.0.10:53", "10.2.0.9:5353", "10.2.0.1:5353"}, {"[fd00:96::10]:53", "[fd00:2::9]:5353", "[fd00:2::1]:5353"}} {
		for i, proto := range []rules.Protocol{rules.UDP, rules.TCP, rules.SCTP} {
			old, current := from(flow(proto, a[0], a[1]), uint16(100+i)), from(flow(proto, a[0], a[2]), uint16(100+i))
			stale = append(stale, in(old, 5, 5), in(old, 6, 0), in(from(old, uint16(200+i)), 0, 8))
			good = append(good, in(current, 0, 0), in(current, 7, 7), in(current, 9, 0), in(from(current, uint16(300+i)), 0, 8))
		}
	}
	return stale, good
}

// Flows in all zones are listed and cleaned, each by its whole tuple: one in another zone with the
// same addresses and ports stays.
func TestZones(t *testing.T) {
	dead, good := zoned()
	var targets []Target
	for _, proto := range []rules.Protocol{rules.UDP, rules.TCP, rules.SCTP} {
		targets = append(targets, Target{Frontend: front(proto, "10.96.0.10:53"), Endpoints: aps("10.2.0.1:5353")},
			Target{Frontend: front(proto, "[fd00:96::10]:53"), Endpoints: aps("[fd00:2::1]:5353")})
	}
	for name, way := range map[string]look{"filtered": lookFiltered, "a large table": lookWhole, "the kernel's text": lookListed} {
		t.Run(name, func(t *testing.T) {
			c := openFor(t, way)
			inject(t, c, 0, slices.Concat(dead, good)...)
			wantFlows(t, "listed", everything(t, c), slices.Concat(dead, good))
			want := Deleted{V4: len(dead) / 2, V6: len(dead) / 2}
			if n, err := c.clean(t.Context(), targets, nil, way); n != want || err != nil {
				t.Errorf("deleted %+v, want %+v: %v", n, want, err)
			}
			wantFlows(t, "left", everything(t, c), good)
		})
	}
}

// A deletion finds the entry of its zones only.
func TestDeleteByZone(t *testing.T) {
	c := open(t)
	f := table()[0]
	all := []Flow{f, in(f, 7, 7), in(f, 8, 0)}
	inject(t, c, 0, all...)
	listed := everything(t, c)
	for len(listed) > 0 {
		if n, err := c.Delete(t.Context(), listed[:1]); n != 1 || err != nil {
			t.Fatalf("deleted %d, want 1: %v", n, err)
		}
		listed = listed[1:]
		wantFlows(t, "left", everything(t, c), listed)
	}
	inject(t, c, 0, all[1])
	f.ID = 0
	if n, err := c.Delete(t.Context(), []Flow{f}); n != 0 || err != nil {
		t.Errorf("deleted %d of another zone: %v", n, err)
	}
}

// Clean must do what the decision says to every entry, with few targets and with many.
func TestClean(t *testing.T) {
	targets := []Target{
		{Frontend: front(rules.UDP, "10.96.0.10:53"), Endpoints: aps("10.2.0.2:5353")},
		{Frontend: front(rules.UDP, "[fd00:96::10]:53"), Endpoints: aps("[fd00:2::2]:5353")},
		{Frontend: front(rules.TCP, "10.96.0.10:53")},
		{Frontend: front(rules.SCTP, "[fd00:96::10]:53")},
		{Frontend: front(rules.UDP, "10.96.0.11:53"), Endpoints: aps("10.2.0.1:5353")},
		{Frontend: rules.Frontend{Protocol: rules.UDP, Port: 54}},
	}
	many := slices.Clone(targets)
	for i := range 2 * maxFilteredDumps {
		for _, dst := range []string{"10.97.0.10", "fd00:97::10"} {
			many = append(many, Target{Frontend: rules.Frontend{Addr: netip.MustParseAddr(dst), Protocol: rules.UDP, Port: uint16(100 + i)}})
		}
	}
	for name, row := range map[string]struct {
		targets []Target
		way     look
	}{
		"few": {targets, lookFiltered}, "many": {many, lookFiltered}, "a large table": {targets, lookWhole},
		"the kernel's text": {targets, lookListed}, "many, the kernel's text": {many, lookListed},
	} {
		t.Run(name, func(t *testing.T) {
			targets := row.targets
			c := openFor(t, row.way)
			inject(t, c, 0, table()...)
			want := selected(table(), func(f Flow) bool {
				return !slices.ContainsFunc(targets, func(t Target) bool { return stale(f, t) })
			})
			n, err := c.clean(t.Context(), targets, nil, row.way)
			deleted := Deleted{V4: 2 + 1 + 2, V6: 2 + 2 + 2}
			if err != nil || n != deleted || len(table())-len(want) != deleted.V4+deleted.V6 {
				t.Errorf("deleted %+v, want %+v: %v", n, deleted, err)
			}
			wantFlows(t, "left", everything(t, c), want)
			if n, err := c.Clean(t.Context(), targets, nil); n.V4+n.V6 != 0 || n.Busy <= 0 || err != nil {
				t.Errorf("again: deleted %+v, want none, in more than no time: %v", n, err)
			}
		})
	}
}

// TestCleanWhileEndpointsCome: a flow to an endpoint that comes while the table is listed stays, one to an endpoint that goes is
// left to the next look, which its commit asks for.
func TestCleanWhileEndpointsCome(t *testing.T) {
	for _, way := range []look{lookFiltered, lookWhole, lookListed} {
		c := openFor(t, way)
		client := ap("10.3.0.1:7")
		flow := func(client, to string) Flow {
			return Flow{Protocol: rules.UDP, Orig: Tuple{ap(client), service(7)}, Reply: Tuple{ap(to), ap(client)}}
		}
		inject(t, c, 0, flow(client.String(), "10.2.0.1:5353"), flow("10.3.0.2:7", "10.2.0.2:5353"), flow("10.3.0.3:7", "10.2.0.3:5353"))
		target := func(endpoints ...string) []Target {
			return []Target{{Frontend: rules.Frontend{Addr: service(7).Addr(), Protocol: rules.UDP, Port: 53}, Endpoints: aps(endpoints...)}}
		}
		asked := 0
		n, err := c.clean(t.Context(), target("10.2.0.1:5353"), func() []Target {
			asked++
			return target("10.2.0.2:5353")
		}, way)
		if err != nil || n.V4 != 1 || asked != 1 {
			t.Errorf("deleted %+v, asked %d times: %v", n, asked, err)
		}
		for _, f := range everything(t, c) {
			if f.Reply.Src == ap("10.2.0.3:5353") {
				t.Errorf("%s is there still", f)
			}
		}
		if got := len(everything(t, c)); got != 2 {
			t.Errorf("%d flows are left, want 2", got)
		}
	}
}

// A dump that was not read to its end must not hold up the next.
func TestUseAfterCancel(t *testing.T) {
	c := open(t)
	inject(t, c, 0, crowd(5000)...)
	ctx, cancel := context.WithCancel(t.Context())
	seen := 0
	err := c.dump(ctx, query{family: unix.AF_INET, proto: rules.UDP}, func(Flow) { seen++; cancel() })
	if !errors.Is(err, context.Canceled) || seen == 0 || seen == 5000 {
		t.Fatalf("dump saw %d entries and ended with %v", seen, err)
	}
	if _, err := c.Clean(ctx, []Target{{Frontend: front(rules.UDP, "10.96.0.1:53")}}, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("clean ended with %v", err)
	}
	if got := len(everything(t, c)); got != 5000 {
		t.Errorf("%d entries afterwards, want 5000", got)
	}
}

func TestConcurrentUse(t *testing.T) {
	c := open(t)
	inject(t, c, 0, table()...)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 20 {
				if got, err := c.List(t.Context(), front(rules.UDP, "10.96.0.10:53")); err != nil || len(got) != 2 {
					t.Errorf("listed %d, want 2: %v", len(got), err)
				}
			}
		})
	}
	wg.Wait()
}

func TestNamespacesAreApart(t *testing.T) {
	a, b := open(t), open(t)
	inject(t, a, 0, table()...)
	if got := len(everything(t, b)); got != 0 {
		t.Errorf("%d entries of another namespace", got)
	}
}

func TestUsage(t *testing.T) {
	c := open(t)
	inject(t, c, 0, table()...)
	u, err := c.Usage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if int(u.Entries) != len(table()) || u.Max == 0 {
		t.Errorf("usage %+v, want %d entries and a limit", u, len(table()))
	}
}
