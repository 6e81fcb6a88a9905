// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/rules"
)

// refusedRow is a transaction that the kernel refuses.
type refusedRow struct {
	name string
	ops  []rules.Op
	want unix.Errno
	text string // the whole message
}

var (
	singleSet  = rules.SetID{Kind: rules.Single}
	frontends  = rules.SetID{Kind: rules.ServiceIPs}
	clusterIPs = rules.SetID{Kind: rules.ClusterIPs}
)

// refusedRows are for tables with the services web-0 to web-2, each with three
// endpoints, in both families.
func refusedRows() []refusedRow {
	elements := func(kind rules.OpKind, f rules.Family, set rules.SetID, e ...rules.Element) rules.Op {
		return rules.Op{Kind: kind, Family: f, Set: set, Elements: e}
	}
	chain := func(kind rules.OpKind, name string, list ...rules.Rule) rules.Op {
		return rules.Op{Kind: kind, Chain: rules.Chain{Name: name, Rules: list}}
	}
	known, unknown := frontend(rules.IPv4, 1), frontend(rules.IPv4, 77)
	v4, v6 := rules.IPv4, rules.IPv6
	return []refusedRow{
		{"add table that is new and a chain that exists",
			[]rules.Op{{Kind: rules.AddTable}, chain(rules.AddChain, "services")},
			unix.EEXIST, "to add chain services of table ip nftproxy: file exists (EEXIST)"},
		{"replace chain that is not there", []rules.Op{chain(rules.ReplaceChain, "theirs")},
			unix.ENOENT, "to replace chain theirs of table ip nftproxy: no such file or directory (ENOENT)" + lacks},
		{"delete chain that a rule jumps to", []rules.Op{chain(rules.DeleteChain, "services")},
			unix.EBUSY, "to delete chain services of table ip nftproxy: device or resource busy (EBUSY)"},
		{"delete chain that an element goes to", []rules.Op{chain(rules.DeleteChain, "service/default/web-1/http")},
			unix.EBUSY, "to delete chain service/default/web-1/http of table ip nftproxy: device or resource busy (EBUSY)"},
		{"jump to chain that is not there", []rules.Op{chain(rules.AddChain, "new", rules.Rule{rules.Return{}}, rules.Rule{rules.Jump{Chain: "theirs"}})},
			unix.ENOENT, "to add chain new of table ip nftproxy: no such file or directory (ENOENT)" + lacks},
		{"loop", []rules.Op{chain(rules.ReplaceChain, "service/default/web-1/http", rules.Rule{rules.Jump{Chain: "services"}})},
			unix.EMLINK, "to replace chain service/default/web-1/http of table ip nftproxy: too many links (EMLINK)"},
		{"statement that the hook does not have", []rules.Op{chain(rules.ReplaceChain, "prerouting", rules.Rule{rules.Masquerade{}})},
			unix.EOPNOTSUPP, "to replace chain prerouting of table ip nftproxy: operation not supported (ENOTSUP)"},
		{"add set that exists", []rules.Op{{Kind: rules.AddSet, Family: v6, Set: singleSet}},
			unix.EEXIST, "to add set single of table ip6 nftproxy: file exists (EEXIST)"},
		{"delete set that a rule reads", []rules.Op{{Kind: rules.DeleteSet, Set: clusterIPs}},
			unix.EBUSY, "to delete set cluster-ips of table ip nftproxy: device or resource busy (EBUSY)"},
		{"delete set that is not there", []rules.Op{{Kind: rules.DeleteSet, Foreign: "theirs"}},
			unix.ENOENT, "to delete set theirs of table ip nftproxy: no such file or directory (ENOENT)"},
		{"add element to set that is not there", []rules.Op{elements(rules.AddElements, v4, rules.SetID{Kind: rules.Endpoints}, rules.Element{})},
			unix.ENOENT, "to add element of ip nftproxy endpoints-00: 0 . 0: no such file or directory (ENOENT)"},
		{"add element that exists, the last", []rules.Op{elements(rules.AddElements, v4, frontends, toChain(unknown, "no-endpoints"), toChain(known, "no-endpoints"))},
			unix.EEXIST, "to add element of ip nftproxy service-ips: 10.96.0.1 . tcp . 80 : goto no-endpoints: file exists (EEXIST)"},
		{"add element that exists, the first", []rules.Op{elements(rules.AddElements, v6, frontends, toChain(frontend(v6, 2), "no-endpoints"), toChain(frontend(v6, 77), "no-endpoints"))},
			unix.EEXIST, "to add element of ip6 nftproxy service-ips: fd00:60::2 . tcp . 80 : goto no-endpoints: file exists (EEXIST)"},
		{"add element that goes to a chain that is not there",
			[]rules.Op{elements(rules.AddElements, v4, frontends, toChain(frontend(v4, 76), "no-endpoints"), toChain(unknown, "theirs"))},
			unix.ENOENT, "to add element of ip nftproxy service-ips: 10.96.0.77 . tcp . 80 : goto theirs: no such file or directory (ENOENT)"},
		{"delete element that is not there", []rules.Op{elements(rules.DeleteElements, v4, frontends, rules.Element{Key: known}, rules.Element{Key: unknown})},
			unix.ENOENT, "to delete element of ip nftproxy service-ips: 10.96.0.77 . tcp . 80: no such file or directory (ENOENT)"},
		{"replace element that is not there", []rules.Op{elements(rules.ReplaceElements, v4, frontends, toChain(known, "no-endpoints"), toChain(unknown, "no-endpoints"))},
			unix.ENOENT, "to replace element of ip nftproxy service-ips: 10.96.0.77 . tcp . 80 : goto no-endpoints: no such file or directory (ENOENT)"},
		{"two chains that exist", []rules.Op{chain(rules.AddChain, "no-endpoints"), chain(rules.AddChain, "services")},
			unix.EEXIST, "to add chain no-endpoints of table ip nftproxy; to add chain services of table ip nftproxy: file exists (EEXIST)"},
		{"several kinds", []rules.Op{
			{Kind: rules.AddSet, Set: singleSet}, {Kind: rules.AddSet, Set: frontends}, chain(rules.AddChain, "services"), chain(rules.ReplaceChain, "theirs"),
			elements(rules.DeleteElements, v4, clusterIPs, rules.Element{Key: rules.Key{Addr: unknown.Addr}})},
			unix.EEXIST, "to add set single of table ip nftproxy; to add set service-ips of table ip nftproxy; " +
				"to add chain services of table ip nftproxy; and 2 more: file exists (EEXIST)"},
	}
}

// frontend is the key of the i-th service.
func frontend(f rules.Family, i int) rules.Key {
	return rules.Key{Addr: address(f, 96, i), Protocol: rules.TCP, Port: 80}
}

func toChain(k rules.Key, chain string) rules.Element {
	return rules.Element{Key: k, Value: rules.Value{Goto: chain}}
}

// lacks is what a refusal of rules says besides.
const lacks = ": if the tables are there, this kernel lacks what the rules use: nftproxy check says what"

// TestRefused checks what the error says, and that nothing has changed.
func TestRefused(t *testing.T) {
	h := newHost(t)
	before := desired(append(services(rules.IPv4, 3, 3), services(rules.IPv6, 3, 3)...)...).State()
	for _, tt := range refusedRows() {
		t.Run(tt.name, func(t *testing.T) {
			h.load(t, before)
			// What would be accepted by itself must not stay either.
			fine := rules.Op{Kind: rules.AddChain, Chain: rules.Chain{Name: "fine"}}
			err := h.Apply(transaction(append([]rules.Op{fine}, tt.ops...)...))
			wantRefused(t, err, tt.want, tt.text)
			wantState(t, "after the refusal", h.read(t, before.Name), before)
		})
	}
}

func wantRefused(t *testing.T, err error, errno unix.Errno, text string) *rules.Refusal {
	t.Helper()
	var refused *rules.Refusal
	if !errors.As(err, &refused) {
		t.Fatalf("error %T %v, want a *rules.Refusal", err, err)
	}
	var said *AnswerError
	if !errors.Is(err, errno) || !errors.As(err, &said) || said.Errno != errno {
		t.Errorf("errno of %v, want %v", err, errno)
	}
	if got := err.Error(); got != "kernel refused "+text {
		t.Errorf("message %q, want %q", got, "kernel refused "+text)
	}
	return refused
}

// TestRefusedTable names a table that is not there.
func TestRefusedTable(t *testing.T) {
	h := newHost(t)
	err := h.Apply(transaction(rules.Op{Kind: rules.AddSet, Set: singleSet}))
	wantRefused(t, err, unix.ENOENT, "to add set single of table ip nftproxy: no such file or directory (ENOENT)")
}

// TestRefusedElement names the one element among many, in whichever message it is.
func TestRefusedElement(t *testing.T) {
	const n = 5000 // some 40 bytes each, in messages of 60,000
	h := newHost(t)
	h.load(t, desired().State())
	for _, f := range rules.Families {
		list := make([]rules.Element, n)
		for i := range list {
			list[i] = rules.Element{Key: rules.Key{Addr: address(f, 96, i)}}
		}
		for _, bad := range []int{0, 1, 1499, 3333, n - 1} {
			one := rules.Op{Kind: rules.AddElements, Family: f, Set: clusterIPs, Elements: list[bad : bad+1]}
			h.apply(t, transaction(one))
			before := h.read(t, rules.DefaultTable)

			err := h.Apply(transaction(rules.Op{Kind: rules.AddElements, Family: f, Set: clusterIPs, Elements: list}))
			refused := wantRefused(t, err, unix.EEXIST,
				"to add element of "+f.String()+" nftproxy cluster-ips: "+list[bad].Addr.String()+": file exists (EEXIST)")
			if got := refused.Objects; len(got) != 1 || got[0].Element == nil || *got[0].Element != list[bad] {
				t.Errorf("element %d: objects %+v", bad, got)
			}
			wantState(t, "after the refusal", h.read(t, rules.DefaultTable), before)
			one.Kind = rules.DeleteElements
			h.apply(t, transaction(one))

			all := slices.Delete(slices.Clone(list), bad, bad+1)
			h.apply(t, transaction(rules.Op{Kind: rules.AddElements, Family: f, Set: clusterIPs, Elements: all}))
			err = h.Apply(transaction(rules.Op{Kind: rules.DeleteElements, Family: f, Set: clusterIPs, Elements: list}))
			wantRefused(t, err, unix.ENOENT,
				"to delete element of "+f.String()+" nftproxy cluster-ips: "+list[bad].Addr.String()+": no such file or directory (ENOENT)")
			h.apply(t, transaction(rules.Op{Kind: rules.DeleteElements, Family: f, Set: clusterIPs, Elements: all}))
		}
	}
}

// TestAppliesAfterRefusal uses the same socket on.
func TestAppliesAfterRefusal(t *testing.T) {
	h := newHost(t)
	want := desired(services(rules.IPv4, 3, 3)...).State()
	for range 3 {
		if err := h.Apply(transaction(rules.Op{Kind: rules.DeleteSet, Foreign: "theirs"})); err == nil {
			t.Error("the deletion of a set that is not there was carried out")
		}
		h.load(t, want)
		wantState(t, "after the next transaction", h.read(t, want.Name), want)
	}
}

// TestWithoutPrivilege says which capability is missing.
func TestWithoutPrivilege(t *testing.T) {
	h := newHost(t)
	for name, try := range map[string]func() error{
		"apply": func() error { return h.Apply(transaction(rules.Op{Kind: rules.AddTable})) },
		"read":  func() error { _, err := h.Read(rules.DefaultTable); return err },
	} {
		err := withoutCapabilities(try)
		if !errors.Is(err, unix.EPERM) || !strings.Contains(err.Error(), "CAP_NET_ADMIN") {
			t.Errorf("%s: %v, want EPERM and that CAP_NET_ADMIN is missing", name, err)
		}
	}
}

// withoutCapabilities runs fn on a thread that has given up its capabilities.
func withoutCapabilities(fn func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var none [2]unix.CapUserData
		if err := unix.Capset(&header, &none[0]); err != nil {
			done <- err
			return
		}
		done <- fn()
	}()
	return <-done
}

// TestRefusalText is about what no transaction here brings about.
func TestRefusalText(t *testing.T) {
	for want, a := range map[string]answer{
		"kernel refused the transaction: no buffer space available (ENOBUFS)": {said: AnswerError{Errno: unix.ENOBUFS}},
		"kernel refused to add table of table ip nftproxy: cannot allocate memory (ENOMEM): too much": {said: AnswerError{Errno: unix.ENOMEM, Message: "too much"},
			objects: []rules.Object{{Table: rules.DefaultTable, Kind: rules.AddTable}}},
	} {
		if got := a.refusal().Error(); got != want {
			t.Errorf("message %q, want %q", got, want)
		}
	}
}
