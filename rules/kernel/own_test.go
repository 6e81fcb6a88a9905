// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/e2e/netns/netnstest"
	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/wire"
)

// newOwningHost returns a namespace of a kernel that has tables that belong to a process.
func newOwningHost(t *testing.T) host {
	t.Helper()
	h := newHost(t)
	can, err := h.CanOwn()
	if err != nil {
		t.Fatal(err)
	}
	if !can {
		t.Skip("this kernel has no tables that belong to a process and outlive it")
	}
	if s := h.nft(t, "", "list", "tables"); s != "" {
		t.Errorf("of the look whether it can there is %q left", s)
	}
	return h
}

// held returns what is desired, with some services, in tables with or without an owner.
func held(hold rules.Hold, services ...rules.Owned) *rules.Desired {
	d := rules.NewDesired(rules.Config{Hold: hold}, rules.Node{})
	d.Update(services)
	return d
}

// next returns another program's Kernel in the namespace.
func (h host) next(t *testing.T) host { return host{open(t, h.ns), h.ns} }

// leave ends a Kernel as the end of its process does.
func (h host) leave(t *testing.T) {
	t.Helper()
	if err := h.Close(); err != nil {
		t.Error(err)
	}
	h.sock, h.eventSock = nil, nil
}

// wantTenure says who may change both tables.
func (h host) wantTenure(t *testing.T, what string, want rules.Tenure) {
	t.Helper()
	for _, f := range rules.Families {
		var table *rules.Table
		err := h.ns.Do(func() (err error) { table, err = h.tableOnly(f, rules.DefaultTable); return err })
		if err != nil {
			t.Fatal(err)
		}
		if table == nil {
			t.Errorf("%s: there is no table %s", what, f)
			continue
		}
		got := table.Tenure
		if got.Owner && got.By != (rules.Process{PID: uint32(os.Getpid()), Name: comm(t)}) {
			t.Errorf("%s: it belongs to %+v", what, got.By)
		}
		if got.Port, got.By = 0, (rules.Process{}); got != want {
			t.Errorf("%s: %+v, want %+v", what, got, want)
		}
	}
}

// tableOnly reads a table without what is in it.
func (h host) tableOnly(f rules.Family, table string) (*rules.Table, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	r, err := h.newReader(table, true)
	if err != nil {
		return nil, err
	}
	defer r.close()
	t, _, err := r.readTableOnly(f)
	return t, err
}

func comm(t *testing.T) string {
	t.Helper()
	name, err := os.ReadFile("/proc/self/comm")
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(name))
}

var (
	tenureOurs   = rules.Tenure{Owner: true, Persist: true, Ours: true}
	tenureTheirs = rules.Tenure{Owner: true, Persist: true}
	tenureOrphan = rules.Tenure{Persist: true}
)

// owned are commands with which others would change or delete our tables.
func ownedCommands() []string {
	return []string{
		"delete table ip nftproxy", "delete table ip6 nftproxy", "flush table ip nftproxy", "add table ip nftproxy { flags dormant\n }",
		"add chain ip nftproxy theirs", "add rule ip nftproxy services counter", "insert rule ip nftproxy services drop",
		"flush chain ip nftproxy services", "add set ip nftproxy theirs { type mark\n }", "add counter ip nftproxy theirs",
		"delete chain ip nftproxy prerouting", "flush set ip nftproxy cluster-ips", "add element ip nftproxy cluster-ips { 10.0.0.9 }",
		"delete element ip nftproxy cluster-ips { " + address(rules.IPv4, 96, 0).String() + " }",
		"rename chain ip nftproxy services theirs", "add flowtable ip nftproxy theirs { hook ingress priority 0\n devices = { lo }\n }",
	}
}

// wantUntouchable has nft try all of them, and a flush of everything: nothing changes.
func (h host) wantUntouchable(t *testing.T, reader *Kernel) {
	t.Helper()
	before := h.read(t, rules.DefaultTable)
	path := netnstest.Tool(t, "nft")
	for _, command := range ownedCommands() {
		cmd := exec.Command(path, "-f", "-")
		cmd.Stdin = strings.NewReader(command)
		var out []byte
		err := h.ns.Do(func() (err error) { out, err = cmd.CombinedOutput(); return err })
		if err == nil || !strings.Contains(string(out), "Operation not permitted") && !strings.Contains(string(out), "Operation not supported") {
			t.Errorf("nft %s: %v: %s", command, err, out)
		}
	}
	h.nft(t, "flush ruleset")
	after, err := reader.Read(rules.DefaultTable)
	if err != nil {
		t.Fatal(err)
	}
	wantSame(t, after, before)
}

// TestOwn: nobody else can change tables that belong to a process; they outlive it, and the next takes them over.
func TestOwn(t *testing.T) {
	h := newOwningHost(t)
	d := held(rules.HoldOwned, append(services(rules.IPv4, 3, 3), services(rules.IPv6, 3, 1)...)...)
	h.load(t, d.State())
	h.wantTenure(t, "made", tenureOurs)
	next := h.next(t)
	next.wantTenure(t, "seen by another", tenureTheirs)
	h.wantUntouchable(t, next.Kernel)
	h.apply(t, d.Update(services(rules.IPv4, 4, 2)))
	wantSame(t, next.read(t, rules.DefaultTable), held(rules.HoldAsIs, append(services(rules.IPv4, 4, 2), services(rules.IPv6, 3, 1)...)...).State())

	ctx, cancel := context.WithTimeout(t.Context(), 2*ownPause)
	defer cancel()
	wantHeld(t, "take over", h, func() error { return next.Own(ctx, rules.DefaultTable) })
	wantHeld(t, "remove", h, func() error { _, err := next.Remove(rules.DefaultTable); return err })
	for what, tx := range map[string]rules.Tx{"change": transaction(rules.Op{Kind: rules.AddElements, Set: clusterIPs, Elements: []rules.Element{{Key: rules.Key{Addr: netip.MustParseAddr("10.9.9.9")}}}}),
		"adopt": rules.Diff(next.read(t, rules.DefaultTable), d.State())} {
		err := wantHeld(t, what, h, func() error { return next.Apply(tx) })
		if !errors.Is(err, unix.EPERM) || !rules.RefusalOf(err).Untouched {
			t.Errorf("%s: %#v", what, err)
		}
	}
	h.leave(t)
	next.wantTenure(t, "when its owner has gone", tenureOrphan)
	if err := next.Own(t.Context(), rules.DefaultTable); err != nil {
		t.Fatal(err)
	}
	next.wantTenure(t, "taken over", tenureOurs)
	if err := next.Own(t.Context(), rules.DefaultTable); err != nil {
		t.Errorf("once more: %v", err)
	}
	wantSame(t, next.read(t, rules.DefaultTable), d.State())
	next.wantUntouchable(t, next.Kernel)
}

// wantHeld wants the error that another process owns a table.
func wantHeld(t *testing.T, what string, by host, do func() error) error {
	t.Helper()
	err := by.ns.Do(do)
	var held *HeldError
	if !errors.As(err, &held) {
		t.Errorf("%s: error %v", what, err)
		return err
	}
	want := fmt.Sprintf("table %s nftproxy belongs to process %d (%s), and only that can change it: stop it first; its table stays", held.Family, os.Getpid(), comm(t))
	if held.Port != by.sock.Port() || held.Error() != want || !strings.Contains(err.Error(), want) {
		t.Errorf("%s: %s, want %s", what, err, want)
	}
	return err
}

// TestOwnByTransaction: the next process need not call Own: adoption takes the tables over, or, when it is refused, nothing.
func TestOwnByTransaction(t *testing.T) {
	h := newOwningHost(t)
	d := held(rules.HoldOwned, services(rules.IPv4, 3, 3)...)
	h.load(t, d.State())
	h.leave(t)
	next := h.next(t)
	tx := rules.Diff(next.read(t, rules.DefaultTable), d.State())
	if tx.Len() != 2 {
		t.Errorf("to adopt equal tables it takes %s", summary(tx))
	}
	bad := tx
	bad.Add(rules.Op{Kind: rules.DeleteSet, Foreign: "none"})
	if err := next.Apply(bad); !errors.Is(err, unix.ENOENT) {
		t.Errorf("error %v, want ENOENT", err)
	}
	next.wantTenure(t, "after a refusal", tenureOrphan)
	next.apply(t, tx)
	next.wantTenure(t, "adopted", tenureOurs)
}

// TestOwnNothing: there is nothing to take over of tables that never had an owner, or do not exist.
func TestOwnNothing(t *testing.T) {
	h := newOwningHost(t)
	for _, s := range []rules.State{{Name: rules.DefaultTable}, held(rules.HoldFree, services(rules.IPv4, 3, 3)...).State()} {
		h.load(t, s)
		if err := h.Own(t.Context(), rules.DefaultTable); err != nil {
			t.Error(err)
		}
		wantState(t, "after that", h.read(t, rules.DefaultTable), withoutHold(s))
	}
}

// withoutHold returns a state without what is wanted of its tables.
func withoutHold(s rules.State) rules.State {
	for _, t := range s.Tables {
		if t != nil {
			t.Tenure = rules.Tenure{}
		}
	}
	return s
}

// TestOwnDormant: an owned table cannot be switched on again, so that is done when it is taken over.
func TestOwnDormant(t *testing.T) {
	h := newOwningHost(t)
	d := held(rules.HoldOwned, services(rules.IPv4, 3, 3)...)
	h.load(t, d.State())
	h.leave(t)
	next := h.next(t)
	for _, f := range rules.Families { // nft 1.0.6 cannot: it does not know the flag persist
		next.foreignFlags(t, f, 1|4)
	}
	if s := next.read(t, rules.DefaultTable); !s.Tables[rules.IPv4].Dormant || !s.Tables[rules.IPv6].Dormant {
		t.Fatal("they are not switched off")
	}
	if err := next.Own(t.Context(), rules.DefaultTable); err != nil {
		t.Fatal(err)
	}
	wantSame(t, next.read(t, rules.DefaultTable), d.State())
}

// foreignFlags changes a table's flags as another program would.
func (h host) foreignFlags(t *testing.T, f rules.Family, flags nftables.TableFlags) {
	t.Helper()
	family := map[rules.Family]nftables.TableFamily{rules.IPv4: nftables.TableFamilyIPv4, rules.IPv6: nftables.TableFamilyIPv6}[f]
	h.foreign(t, func(c *nftables.Conn) {
		c.AddTable(&nftables.Table{Name: rules.DefaultTable, Family: family, Flags: flags})
	})
}

// TestOwnSoon: when the owner ends, who waits has the tables at once, though they are large.
func TestOwnSoon(t *testing.T) {
	h := newOwningHost(t)
	h.load(t, held(rules.HoldOwned, services(rules.IPv4, 500, 10)...).State())
	next := h.next(t)
	began, done := make(chan struct{}), make(chan error)
	go func() {
		close(began)
		done <- next.Own(t.Context(), rules.DefaultTable)
	}()
	<-began
	h.leave(t)
	start := time.Now()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	t.Logf("%s after the end", time.Since(start))
	next.wantTenure(t, "taken over", tenureOurs)
}

// TestHoldChanges: flags come and go with a replacement of the whole table, in one transaction; clients with session affinity
// stay where they are, with what is left of their time.
func TestHoldChanges(t *testing.T) {
	h := newOwningHost(t)
	client, second := netip.MustParseAddr("10.1.2.3"), netip.MustParseAddr("10.1.2.4")
	to := netip.MustParseAddrPort("10.244.0.1:8080")
	set := rules.SetID{Kind: rules.Affinity, Of: "/default/web-0/http"}
	for _, hold := range []rules.Hold{rules.HoldFree, rules.HoldOwned, rules.HoldFree, rules.HoldOwned} {
		d := held(hold, rememberingServices(3)...)
		tx := rules.Diff(h.read(t, rules.DefaultTable), d.State())
		gen := h.generation(t)
		h.apply(t, tx)
		if made := h.generation(t) - gen; made != 1 {
			t.Errorf("to %d: it took %d transactions", hold, made)
		}
		h.wantTenure(t, "changed", map[rules.Hold]rules.Tenure{rules.HoldOwned: tenureOurs}[hold])
		got := h.listing(t, rules.DefaultTable)
		wantSame(t, got, d.State())
		clients := got.Tables[rules.IPv4].Sets[set]
		if hold == rules.HoldFree && len(clients) == 0 { // the first time
			h.nft(t, fmt.Sprintf("add element ip nftproxy %s { %s timeout 3h expires 1h : %s . %d, %s timeout 2s expires 1s : %s . %d }",
				set.Name(), client, to.Addr(), to.Port(), second, to.Addr(), to.Port()))
			continue
		}
		life := got.Tables[rules.IPv4].Affinity[set].Clients[rules.Key{Addr: client}]
		if clients[rules.Key{Addr: client}].To != to || life.Timeout != 3*3600*1000 || life.Expires > 3600*1000 || life.Expires < 3000*1000 {
			t.Errorf("to %d: clients %v, the first for %+v", hold, clients, life)
		}
	}
}

// rememberingServices returns services with session affinity.
func rememberingServices(n int) []rules.Owned {
	out := make([]rules.Owned, n)
	for i := range out {
		sp := rules.ServicePort{Name: rules.ServicePortName{Namespace: "default", Name: fmt.Sprintf("web-%d", i), Port: "http"},
			Protocol: rules.TCP, ClusterIP: address(rules.IPv4, 96, i), Port: 80, Policies: rules.Policies{Affinity: 3 * 3600}}
		out[i] = rules.Owned{Owner: rules.Owner{ServicePortName: sp.Name}, Objects: rules.Build(sp, []rules.Endpoint{
			{Addr: netip.MustParseAddrPort("10.244.0.1:8080"), Ready: true}, {Addr: netip.MustParseAddrPort("10.244.0.2:8080"), Ready: true}},
			rules.Config{}.WithDefaults(), rules.Node{})}
	}
	return out
}

// generation returns how many commits there were.
func (h host) generation(t *testing.T) uint32 {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	gen, _, err := h.others()
	if err != nil {
		t.Fatal(err)
	}
	return gen
}

// TestHoldChangesInAFullMap: where the new map is smaller, so many clients stay as there is room for.
func TestHoldChangesInAFullMap(t *testing.T) {
	h := newOwningHost(t)
	set := rules.SetID{Kind: rules.Affinity, Of: "/default/web-0/http"}
	h.load(t, held(rules.HoldFree, rememberingServices(1)...).State())
	var list []string
	for i := range 2000 {
		list = append(list, fmt.Sprintf("%s timeout 3h : 10.244.0.1 . 8080", address(rules.IPv4, 1, i)))
	}
	h.nft(t, fmt.Sprintf("add element ip nftproxy %s { %s }", set.Name(), strings.Join(list, ", ")))
	want := held(rules.HoldOwned, rememberingServices(1)...).State()
	m := want.Tables[rules.IPv4].Affinity[set]
	m.Size = 1500
	want.Tables[rules.IPv4].Affinity[set] = m
	h.apply(t, rules.Diff(h.read(t, rules.DefaultTable), want))
	if n := len(h.listing(t, rules.DefaultTable).Tables[rules.IPv4].Sets[set]); n != 1500 {
		t.Errorf("%d clients are remembered, want 1500", n)
	}
}

// TestHoldChangesWithoutRoom: clients that do not fit the transaction are left out.
func TestHoldChangesWithoutRoom(t *testing.T) {
	var b wire.Batch
	b.Begin(rules.DefaultTable)
	op := rules.Op{Kind: rules.AddSet, Set: rules.SetID{Kind: rules.Affinity, Of: "/default/web/http"}, Size: 1 << 20}
	wire.AddClients(&b, &op, func(yield func(wire.Element) bool) {
		e := wire.Element{Life: rules.Lifetime{Timeout: 1, Expires: 2}}
		e.Key.Addr, e.To = netip.MustParseAddr("10.0.0.1"), netip.MustParseAddrPort("10.0.0.2:80")
		for yield(e) {
		}
	}, 100000)
	if len(b.Buf) > 100000 || len(b.Buf) < 99000 {
		t.Errorf("the batch has %d bytes, want just below 100000", len(b.Buf))
	}
}

// TestOwnedListing: our text is what nft lists, of 1.0.6 but for the flag persist, which it does not know.
func TestOwnedListing(t *testing.T) {
	h := newOwningHost(t)
	d := held(rules.HoldOwned, services(rules.IPv4, 2, 2)...)
	h.load(t, d.State())
	for range 2 {
		listing := h.nft(t, "", "list", "ruleset")
		next := h.next(t)
		var state rules.State
		if err := h.ns.Do(func() (err error) { state, err = next.ReadListing(rules.DefaultTable); return err }); err != nil {
			t.Fatal(err)
		}
		text := netnstest.AsListed(stateText(t, state))
		old := strings.NewReplacer("flags owner,persist", "flags owner", "flags persist", "flags ").Replace(text)
		if diff := cmp.Diff(listing, old); diff != "" {
			t.Errorf("the text differs from nft's listing (-nft +text):\n%s", diff)
		}
		if nft := os.Getenv("NFTPROXY_NEWER_NFT"); nft != "" {
			var out []byte
			if err := h.ns.Do(func() (err error) { out, err = exec.Command(nft, "list", "ruleset").CombinedOutput(); return err }); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			names := strings.NewReplacer("output priority -100", "output priority dstnat", "input priority 100", "input priority srcnat")
			if diff := cmp.Diff(string(out), names.Replace(text)); diff != "" {
				t.Errorf("the text differs from the newer nft's listing (-nft +text):\n%s", diff)
			}
		}
		h.leave(t) // and once more when the owner has gone
	}
}
