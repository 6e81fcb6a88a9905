// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"testing"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"

	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/wire"
)

func TestReadNothing(t *testing.T) {
	h := newHost(t)
	wantState(t, "read", h.read(t, "nothing"), rules.State{Name: "nothing"})
}

func TestApplyNothing(t *testing.T) {
	h := newHost(t)
	h.apply(t, transaction())
	wantState(t, "after no operation", h.read(t, rules.DefaultTable), rules.State{Name: rules.DefaultTable})
}

// TestRemove removes the tables of our name and no others.
func TestRemove(t *testing.T) {
	h := newHost(t)
	other := rules.NewDesired(rules.Config{Table: "other"}, rules.Node{}).State()
	h.load(t, other)
	for want, families := range [][]rules.Family{nil, {rules.IPv6}, {rules.IPv4, rules.IPv6}} {
		for _, f := range families {
			h.apply(t, transaction(rules.Op{Kind: rules.AddTable, Family: f}))
		}
		if n, err := h.Remove(rules.DefaultTable); n != want || err != nil {
			t.Errorf("removed %d tables (%v), want %d", n, err, want)
		}
		wantState(t, "read", h.read(t, rules.DefaultTable), rules.State{Name: rules.DefaultTable})
	}
	wantState(t, "the other tables", h.read(t, "other"), other)
}

// TestRemoveLoaded removes tables that hold everything.
func TestRemoveLoaded(t *testing.T) {
	h := newHost(t)
	h.load(t, desired(append(services(rules.IPv4, 3, 3), services(rules.IPv6, 3, 1)...)...).State())
	if n, err := h.Remove(rules.DefaultTable); n != 2 || err != nil {
		t.Errorf("removed %d tables (%v), want 2", n, err)
	}
	wantState(t, "read", h.read(t, rules.DefaultTable), rules.State{Name: rules.DefaultTable})
}

// TestAdoption finds nothing to do in tables that another process of ours left.
func TestAdoption(t *testing.T) {
	h := newHost(t)
	all := func() *rules.Desired {
		return desired(append(services(rules.IPv4, 5, 3), services(rules.IPv6, 5, 1)...)...)
	}
	h.load(t, all().State())
	next := host{open(t, h.ns), h.ns}
	wantSame(t, next.read(t, rules.DefaultTable), all().State())
}

// TestRepair undoes what another program did to our tables.
func TestRepair(t *testing.T) {
	ip4 := tableIP4()
	want := func() rules.State { return desired(services(rules.IPv4, 3, 3)...).State() }
	base := func(name string, kind nftables.ChainType, hook *nftables.ChainHook, priority nftables.ChainPriority) *nftables.Chain {
		return &nftables.Chain{Table: ip4, Name: name, Type: kind, Hooknum: hook, Priority: &priority}
	}
	for name, tt := range map[string]struct {
		tamper func(c *nftables.Conn)
		seen   func(t *rules.Table) bool // whether the state read back tells
	}{
		"table switched off": {
			func(c *nftables.Conn) {
				c.AddTable(&nftables.Table{Name: ip4.Name, Family: ip4.Family, Flags: nftables.TableFlagDormant})
			},
			func(t *rules.Table) bool { return t.Dormant },
		},
		"table gone": {
			func(c *nftables.Conn) { c.DelTable(ip4) },
			func(t *rules.Table) bool { return t == nil },
		},
		"set added": {
			func(c *nftables.Conn) {
				must(c.AddSet(&nftables.Set{Table: ip4, Name: "theirs", KeyType: nftables.TypeMark}, nil))
			},
			func(t *rules.Table) bool { return len(t.Foreign) == 1 && t.Foreign[0] == "theirs" },
		},
		"set of our name with other types": {
			func(c *nftables.Conn) {
				c.DelTable(ip4)
				c.AddTable(ip4)
				must(c.AddSet(&nftables.Set{Table: ip4, Name: "cluster-ips", KeyType: nftables.TypeMark}, nil))
			},
			func(t *rules.Table) bool { return len(t.Foreign) == 1 && t.Foreign[0] == "cluster-ips" },
		},
		"map of our name with other values": {
			func(c *nftables.Conn) {
				c.DelTable(ip4)
				c.AddTable(ip4)
				key := nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeInetProto, nftables.TypeInetService)
				must(c.AddSet(&nftables.Set{Table: ip4, Name: "single", IsMap: true, KeyType: key, DataType: nftables.TypeIPAddr}, nil))
			},
			func(t *rules.Table) bool { return len(t.Foreign) == 1 && t.Foreign[0] == "single" },
		},
		"set of our name with other flags": {
			func(c *nftables.Conn) {
				c.DelTable(ip4)
				c.AddTable(ip4)
				must(c.AddSet(&nftables.Set{Table: ip4, Name: "cluster-ips", KeyType: nftables.TypeIPAddr, Interval: true}, nil))
			},
			func(t *rules.Table) bool { return len(t.Foreign) == 1 && t.Foreign[0] == "cluster-ips" },
		},
		"base chain with another hook": {
			func(c *nftables.Conn) {
				c.DelTable(ip4)
				c.AddTable(ip4)
				c.AddChain(base("output", nftables.ChainTypeNAT, nftables.ChainHookPrerouting, -100))
			},
			func(t *rules.Table) bool { return t.Chains["output"].Hook.Number == rules.HookPrerouting },
		},
		"base chain with another priority": {
			func(c *nftables.Conn) {
				c.DelTable(ip4)
				c.AddTable(ip4)
				c.AddChain(base("output", nftables.ChainTypeNAT, nftables.ChainHookOutput, -99))
			},
			func(t *rules.Table) bool { return t.Chains["output"].Hook.Priority == -99 },
		},
		"base chain of another type": {
			func(c *nftables.Conn) {
				c.DelTable(ip4)
				c.AddTable(ip4)
				c.AddChain(base("output", nftables.ChainTypeFilter, nftables.ChainHookOutput, -100))
			},
			func(t *rules.Table) bool { return t.Chains["output"].Hook.Filter },
		},
		"base chain with another policy": {
			func(c *nftables.Conn) {
				drop := nftables.ChainPolicyDrop
				ch := base("output", nftables.ChainTypeNAT, nftables.ChainHookOutput, -100)
				ch.Policy = &drop
				c.AddChain(ch)
			},
			func(t *rules.Table) bool { return t.Chains["output"].Hook.Number == wire.ForeignHook },
		},
		"base chain as a regular one": {
			func(c *nftables.Conn) {
				c.DelTable(ip4)
				c.AddTable(ip4)
				c.AddChain(&nftables.Chain{Table: ip4, Name: "output"})
			},
			func(t *rules.Table) bool { return t.Chains["output"].Hook == nil },
		},
		"base chain added": {
			func(c *nftables.Conn) {
				c.AddChain(base("theirs", nftables.ChainTypeFilter, nftables.ChainHookForward, 0))
			},
			func(t *rules.Table) bool { _, ok := t.Chains["theirs"]; return ok },
		},
		"chains added that jump to each other": {
			func(c *nftables.Conn) {
				for _, name := range []string{"a", "b", "c"} {
					c.AddChain(&nftables.Chain{Table: ip4, Name: name})
				}
				jump(c, "services", "b")
				jump(c, "b", "a")
				jump(c, "b", "c")
			},
			func(t *rules.Table) bool { _, ok := t.Chains["b"]; return ok },
		},
		"map added with verdicts": {
			func(c *nftables.Conn) {
				c.AddChain(&nftables.Chain{Table: ip4, Name: "theirs"})
				must(c.AddSet(&nftables.Set{Table: ip4, Name: "their-map", IsMap: true, KeyType: nftables.TypeMark, DataType: nftables.TypeVerdict},
					[]nftables.SetElement{{Key: []byte{0, 0, 0, 1}, VerdictData: &expr.Verdict{Kind: expr.VerdictGoto, Chain: "theirs"}}}))
			},
			func(t *rules.Table) bool { return len(t.Foreign) == 1 },
		},
		"chain added that reads a set of ours that goes": {
			func(c *nftables.Conn) {
				must(c.AddSet(&nftables.Set{Table: ip4, Name: "endpoints-00", IsMap: true,
					KeyType:  nftables.MustConcatSetType(nftables.TypeInteger, nftables.TypeInteger),
					DataType: nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeInetService)}, nil))
				c.AddChain(&nftables.Chain{Table: ip4, Name: "theirs"})
				c.AddRule(&nftables.Rule{Table: ip4, Chain: &nftables.Chain{Name: "theirs"}, Exprs: []expr.Any{
					&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 12, Len: 8},
					&expr.Lookup{SourceRegister: 1, DestRegister: 1, IsDestRegSet: true, SetName: "endpoints-00"}}})
			},
			func(t *rules.Table) bool { _, ok := t.Chains["theirs"]; return ok },
		},
		"rules gone": {
			func(c *nftables.Conn) { c.FlushChain(&nftables.Chain{Table: ip4, Name: "services"}) },
			func(t *rules.Table) bool { return len(t.Chains["services"].Rules) == 0 },
		},
		"element of a verdict": {
			func(c *nftables.Conn) {
				must(c.SetAddElements(&nftables.Set{Table: ip4, Name: "service-ips", IsMap: true, DataType: nftables.TypeVerdict},
					[]nftables.SetElement{{Key: []byte{10, 96, 9, 9, 6, 0, 0, 0, 0, 80, 0, 0}, VerdictData: dropVerdict()}}))
			},
			func(t *rules.Table) bool {
				v := t.Sets[rules.SetID{Kind: rules.ServiceIPs}][rules.Key{Addr: address(rules.IPv4, 96, 9<<8+9), Protocol: rules.TCP, Port: 80}]
				return v.Goto == "(verdict 0) "
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			h.load(t, want())
			h.foreign(t, tt.tamper)
			if got := h.read(t, rules.DefaultTable); !tt.seen(got.Tables[rules.IPv4]) {
				t.Errorf("read as\n%s", stateText(t, got))
			}
			h.load(t, want())
			wantState(t, "after the repair", h.read(t, rules.DefaultTable), want())
		})
	}
}
