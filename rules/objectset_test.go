// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
)

// TestOwnersOf finds the owners of all kinds of objects, and what nobody owns.
func TestOwnersOf(t *testing.T) {
	owner := func(i int) Owner {
		return Owner{ServicePortName: ServicePortName{Namespace: "ns", Name: fmt.Sprint("svc-", i), Port: "p"}, Family: IPv4}
	}
	key := Key{Addr: netip.MustParseAddr("10.0.0.1"), Protocol: TCP, Port: 80}
	d := NewDesired(Config{}, Node{})
	sources, affinity := SetID{Kind: Sources, Of: "/ns/svc-1/p"}, SetID{Kind: Affinity, Of: "/ns/svc-2/p"}
	d.Update([]Owned{
		{owner(1), Objects{Chains: []Chain{{Name: "own"}}, Sets: []SetElements{{sources, []Element{{Key: key}}}}}},
		{owner(2), Objects{Shared: []Chain{{Name: "shared"}}, Affinity: []AffinityMap{{Set: affinity}},
			Sets: []SetElements{{SetID{Kind: Single}, []Element{{Key: key}}}}}},
		{owner(3), Objects{Shared: []Chain{{Name: "shared"}}, Sets: []SetElements{{SetID{Kind: ClusterIPs}, []Element{{Key: key}}}}}},
	})
	element := func(set SetID) Object { return Object{Set: set.Name(), Element: &Element{Key: key}} }
	for _, tt := range []struct {
		what   string
		object Object
		want   []int
	}{
		{"chain", Object{Chain: "own"}, []int{1}},
		{"chain of two", Object{Chain: "shared"}, []int{2, 3}},
		{"chain of none", Object{Chain: "none"}, nil},
		{"chain of the other family", Object{Chain: "own", Family: IPv6}, nil},
		{"set", Object{Set: sources.Name()}, []int{1}},
		{"set of all", Object{Set: "single"}, nil},
		{"map that the kernel fills", Object{Set: affinity.Name()}, []int{2}},
		{"element of it", element(affinity), []int{2}},
		{"element", element(SetID{Kind: Single}), []int{2}},
		{"element of another set", element(SetID{Kind: ServiceIPs}), nil},
		{"table", Object{}, nil},
	} {
		owners, nobodys := d.OwnersOf([]Object{tt.object, {Chain: "none too"}})
		var want []Owner
		for _, i := range tt.want {
			want = append(want, owner(i))
		}
		slices.SortFunc(owners, func(a, b Owner) int { return cmpString(a.Name, b.Name) })
		if !slices.Equal(owners, want) {
			t.Errorf("%s: owners %v, want %v", tt.what, owners, want)
		}
		if (len(nobodys) == 2) != (len(want) == 0) {
			t.Errorf("%s: nobody has %v", tt.what, nobodys)
		}
	}
}

func cmpString(a, b string) int { return slices.Compare([]byte(a), []byte(b)) }

// TestOwnersOfMany: the work is that of the owners and of the objects together, not of each owner for each object:
// with so many of both it would take minutes.
func TestOwnersOfMany(t *testing.T) {
	const n = 30000
	d := NewDesired(Config{}, Node{})
	objects := make([]Object, n)
	changes := make([]Owned, n)
	elements := make([]Element, n)
	for i := range n {
		e := Element{Key: Key{ID: uint32(i), Index: 1}}
		owner := Owner{ServicePortName: ServicePortName{Name: fmt.Sprint(i)}}
		changes[i] = Owned{owner, Objects{Sets: []SetElements{{SetID{Kind: Endpoints}, []Element{e}}},
			Affinity: []AffinityMap{{Set: SetID{Kind: Affinity, Of: "/" + owner.Name}}}}}
		objects[i], elements[i] = Object{Set: "endpoints-00", Element: &elements[i]}, e
	}
	tx := d.Update(changes)
	if owners, nobodys := d.OwnersOf(objects); len(owners) != n || len(nobodys) != 0 {
		t.Errorf("%d owners, %d of nobody", len(owners), len(nobodys))
	}
	if tx.Omit(objects); tx.Elements() != 0 {
		t.Errorf("%d elements left", tx.Elements())
	}
}
