// SPDX-License-Identifier: Apache-2.0

package rules_test

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nftproxy/nftproxy/rules"
)

// TestTell: a comparison part by part says what Differences says of the whole, of a copy that later changes do not touch.
func TestTell(t *testing.T) {
	d := rules.NewDesired(testConfig, testNode)
	d.Update([]rules.Owned{owned(servicePort("", rules.TCP, "10.96.0.10:80"), ready("10.0.0.1:80", "10.0.0.2:80")),
		owned(servicePort("other", rules.TCP, "10.96.0.11:80"), ready("10.0.0.3:80"))})
	want, frozen := d.State(), d.Frozen()
	d.Update([]rules.Owned{owned(servicePort("other", rules.TCP, "10.96.0.11:80"), ready("10.0.0.9:80"))})
	single := rules.SetID{Kind: rules.Single}
	for name, change := range map[string]func(*rules.State){
		"equal":           func(*rules.State) {},
		"no table":        func(s *rules.State) { s.Tables[rules.IPv4] = nil },
		"nothing":         func(s *rules.State) { *s = rules.State{Name: s.Name} },
		"counted":         func(s *rules.State) { s.Tables[rules.IPv4].Counted = true },
		"dormant":         func(s *rules.State) { s.Tables[rules.IPv4].Dormant = true },
		"odd":             func(s *rules.State) { s.Tables[rules.IPv4].Odd = []rules.Oddity{{What: "it has a flag"}} },
		"elements":        func(s *rules.State) { clear(s.Tables[rules.IPv4].Sets[single]) },
		"another chain":   func(s *rules.State) { s.Tables[rules.IPv4].Chains["services"] = rules.Chain{Name: "services"} },
		"a foreign chain": func(s *rules.State) { s.Tables[rules.IPv4].Chains["x"] = rules.Chain{Name: "x"} },
		"another value": func(s *rules.State) {
			for k, v := range s.Tables[rules.IPv4].Sets[single] {
				v.To = netip.AddrPortFrom(v.To.Addr().Next(), v.To.Port())
				s.Tables[rules.IPv4].Sets[single][k] = v
			}
		},
	} {
		have := want.Clone()
		change(&have)
		c := frozen.Tell(nil)
		have.Scan(nil, c)
		got, full := c.Differences(0), rules.Differences(have, want)
		if diff := cmp.Diff(full, got.List); diff != "" {
			t.Errorf("%s: -Differences +Tell:\n%s", name, diff)
		}
		if some := c.Differences(1); len(full) > 0 && len(some.List) != 1 {
			t.Errorf("%s: at most 1, and there are %d", name, len(some.List))
		}
		n := 0
		for _, k := range got.Counts {
			n += k
		}
		if n != len(full) || (name == "equal" || name == "counted") != (n == 0) {
			t.Errorf("%s: %d counted, %d differences", name, n, len(full))
		}
	}
}

// TestTellOwned: who reads what it has written itself, with another socket than that which owns the tables, finds no difference; whoever
// programs takes them over.
func TestTellOwned(t *testing.T) {
	config := testConfig
	config.Hold = rules.HoldOwned
	d := rules.NewDesired(config, testNode)
	have := d.State()
	for _, f := range rules.Families {
		have.Tables[f].Tenure = rules.Tenure{Owner: true, Persist: true, Port: 7}
	}
	c := d.Tell(nil)
	have.Scan(nil, c)
	if got := c.Differences(0); len(got.List) > 0 {
		t.Errorf("%v", got.List)
	}
	c = d.Compare(nil)
	have.Scan(nil, c)
	if tx := c.Tx(); tx.Len() != 2 {
		t.Errorf("%d operations, want those that take the tables over", tx.Len())
	}
}
