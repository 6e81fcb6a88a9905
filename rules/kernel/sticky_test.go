// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/nftproxy/nftproxy/rules"
)

// stickyServices returns TCP services of both families with session affinity, for some timeouts.
func stickyServices(endpoints int) []rules.Owned {
	var out []rules.Owned
	for _, f := range rules.Families {
		for i, seconds := range []uint32{1, 10800, 86400} {
			sp := rules.ServicePort{
				Name:   rules.ServicePortName{Namespace: "default", Name: fmt.Sprintf("sticky-%d", i)},
				Family: f, Protocol: rules.TCP, ClusterIP: address(f, 96, i), Port: 80, NodePort: uint16(30000 + i),
				Policies: rules.Policies{ExternalLocal: true, Affinity: seconds},
			}
			var list []rules.Endpoint
			for j := range endpoints {
				list = append(list, rules.Endpoint{Addr: netip.AddrPortFrom(address(f, 128, 16*i+j), 8080), Ready: true, Local: j == 0})
			}
			objects := rules.Build(sp, list, rules.Config{AffinitySize: 1000}.WithDefaults(), rules.Node{})
			out = append(out, rules.Owned{Owner: rules.Owner{ServicePortName: sp.Name, Family: f}, Objects: objects})
		}
	}
	return out
}

// remember adds clients to all maps of a state, as rules do: with a timeout of their own.
func (h host) remember(t *testing.T, s rules.State) {
	t.Helper()
	var script strings.Builder
	for _, f := range rules.Families {
		for id := range s.Tables[f].Affinity {
			for i := range 3 {
				fmt.Fprintf(&script, "add element %s nftproxy %s { %s timeout 3h : %s . 8080 }\n", f, id.Name(), address(f, 64, i), address(f, 128, i))
			}
		}
	}
	h.nft(t, script.String())
}

// clients returns how many clients all maps have.
func (h host) clients(t *testing.T) (n int) {
	t.Helper()
	s, err := h.ReadListing(rules.DefaultTable)
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range s.Tables {
		for id := range table.Affinity {
			n += len(table.Sets[id])
		}
	}
	return n
}

// withoutStay returns a state as a version made it that looked only clients up, not their endpoints.
func withoutStay(s rules.State) rules.State {
	s = s.Clone()
	for _, table := range s.Tables {
		for id := range table.Sets {
			if id.Kind == rules.Stay {
				delete(table.Sets, id)
			}
		}
		for name, c := range table.Chains {
			if len(c.Rules) == 0 || len(c.Rules[0]) != 2 {
				continue
			}
			if now, ok := c.Rules[0][1].(rules.DNATRemembered); ok {
				was := rules.DNAT{Family: now.Family, Fields: rules.NewFields(rules.Field{Kind: rules.SourceAddr}), Map: now.Clients}
				c.Rules = append([]rules.Rule{{c.Rules[0][0], was}}, c.Rules[2:]...) // the second one forgets
				table.Chains[name] = c
			}
		}
	}
	return s
}

// TestStickyClientsStay: a comparison finds nothing odd in maps that packets fill, empty or not, and what it changes
// leaves their clients where they are, also after a version that had no maps of endpoints for them.
func TestStickyClientsStay(t *testing.T) {
	h := newHost(t)
	d := desired(stickyServices(3)...)
	unchanged := func(when string) {
		t.Helper()
		c := d.Compare(nil)
		if err := h.Scan(rules.DefaultTable, nil, c); err != nil {
			t.Fatal(err)
		}
		if tx := c.Tx(); tx.Len() != 0 {
			t.Errorf("%s: %s", when, summary(tx))
		}
	}
	h.mend(t, d, nil)
	unchanged("without clients")
	h.remember(t, d.State())
	all := h.clients(t)
	if want := 2 * 3 * 2 * 3; all != want { // families, services, policies
		t.Fatalf("%d clients, want %d", all, want)
	}
	unchanged("with clients")

	h.apply(t, rules.Diff(h.read(t, rules.DefaultTable), withoutStay(d.State())))
	h.mend(t, d, nil)
	unchanged("after an upgrade")
	if n := h.clients(t); n != all {
		t.Errorf("%d clients after an upgrade, want %d", n, all)
	}

	things := []rules.Thing{}
	for _, f := range rules.Families {
		for id := range d.State().Tables[f].Affinity {
			things = append(things, rules.Thing{Kind: rules.ThingSet, Family: f, Name: id.Name()},
				rules.Thing{Kind: rules.ThingElement, Family: f, Name: id.Name(), Key: rules.Key{Addr: address(f, 64, 0)}})
		}
	}
	c := d.Compare(things)
	if err := h.Scan(rules.DefaultTable, things, c); err != nil {
		t.Fatal(err)
	}
	if tx := c.Tx(); tx.Len() != 0 || c.Whole() {
		t.Errorf("after others have touched the maps: %s (whole: %v)", summary(tx), c.Whole())
	}
}
