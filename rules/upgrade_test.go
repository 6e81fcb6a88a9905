// SPDX-License-Identifier: Apache-2.0

package rules_test

import (
	"net/netip"
	"testing"

	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/tracer"
)

// TestUpgradeOfAffinity: a table of a version that sent clients to endpoints without a look whether they are there
// becomes one of this version step by step. Clients keep their endpoints; those of endpoints that are gone do not.
func TestUpgradeOfAffinity(t *testing.T) {
	const a, b, c = "10.244.2.2:1", "10.244.2.3:1", "10.244.2.4:1"
	sp := full()
	sp.Affinity = 100
	desired := rules.NewDesired(testConfig, testNode)
	desired.Update([]rules.Owned{owned(sp, on(a, b, c))})
	kernel := asBefore(desired.State())
	clients := kernel.Tables[rules.IPv4].Sets[rules.SetID{Kind: rules.Affinity, Of: "/default/web"}]
	for from, to := range map[string]string{"10.244.1.21": a, "10.244.1.22": b, "10.244.1.23": "10.244.2.9:1"} {
		clients[rules.Key{Addr: netip.MustParseAddr(from)}] = rules.Value{To: netip.MustParseAddrPort(to)}
	}
	desired.Update([]rules.Owned{owned(sp, on(b, c))}) // while neither version ran
	tx := rules.Diff(kernel, desired.State())
	for _, op := range tx.Ops() {
		if op.Kind == rules.ResetTable || op.Kind == rules.DeleteSet {
			t.Errorf("the upgrade does this: %s", op.Object(tx.Name))
		}
	}
	kernel = applyCut(t, kernel, tx)
	if left := rules.Diff(kernel, desired.State()); left.Len() != 0 {
		t.Errorf("%d operations left", left.Len())
	}
	tr := &tracer.Tracer{State: kernel, Local: []netip.Addr{netip.MustParseAddr(fromNode)}}
	for from, gone := range map[string]bool{"10.244.1.21": true, "10.244.1.22": false, "10.244.1.23": true} {
		first := send(t, tr, from, toClusterIP)
		if !gone && first != b || first != b && first != c {
			t.Errorf("client %s: %s", from, first)
		}
		if again := send(t, tr, from, toClusterIP); again != first {
			t.Errorf("client %s: %s, then %s", from, first, again)
		}
	}
}

// asBefore returns a state as versions before that rule made it.
func asBefore(s rules.State) rules.State {
	s = s.Clone()
	t := s.Tables[rules.IPv4]
	for id := range t.Sets {
		if id.Kind == rules.Stay {
			delete(t.Sets, id)
		}
	}
	for name, chain := range t.Chains {
		var list []rules.Rule
		for _, r := range chain.Rules {
			if _, ok := r[0].(rules.RestoreDest); ok {
				continue
			}
			if len(r) == 2 {
				if was, ok := r[1].(rules.DNATRemembered); ok {
					r = rules.Rule{r[0], rules.DNAT{Family: was.Family, Fields: rules.NewFields(rules.Field{Kind: rules.SourceAddr}), Map: was.Clients}}
				}
			}
			list = append(list, r)
		}
		chain.Rules = list
		t.Chains[name] = chain
	}
	return s
}
