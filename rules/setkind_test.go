// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"net/netip"
	"slices"
	"testing"
)

// TestSetKindsAreComplete: each kind of set has a row, and each row all that it needs.
func TestSetKindsAreComplete(t *testing.T) {
	names, twins := map[string]bool{}, map[SetKind]bool{}
	for _, k := range SetKinds() {
		if twin := k.row().nodePorts; twin != 0 {
			twins[twin] = true
		}
	}
	for _, k := range SetKinds() {
		row := k.row()
		if row.name == "" || names[row.name] || row.note == "" || len(row.key) == 0 {
			t.Errorf("kind %d: %+v: it needs a name of its own, a note and the parts of its key", k, row)
		}
		names[row.name] = true
		if got, ok := ParseSetID(k.example().Name()); !ok || got != k.example() {
			t.Errorf("%s is read as %+v (%t)", k.example().Name(), got, ok)
		}
		switch {
		case row.nodePorts != 0 && (!slices.Equal(row.key, frontendKey) || !slices.Equal(row.nodePorts.Key(), nodePortKey) || row.nodePorts.Value() != row.value):
			t.Errorf("%s: %s is not the same for NodePorts", row.name, row.nodePorts.row().name)
		case !row.dynamic && slices.Equal(row.key, frontendKey) != (row.nodePorts != 0), slices.Equal(row.key, nodePortKey) != twins[k]:
			t.Errorf("%s: frontends and NodePorts have a set each", row.name)
		case row.value == Range && !slices.Equal(row.key, []KeyPart{KeyAddr}):
			t.Errorf("%s: ranges are of addresses", row.name)
		case row.serves && (!k.IsMap() || !twins[k] && row.nodePorts == 0), row.forwards && row.value != ToEndpoint, row.dynamic && row.value != ToEndpoint && row.value != NoValue:
			t.Errorf("%s: %+v: its value does not fit", row.name, row)
		case row.neutral && (k.IsMap() || row.serves || row.forwards || row.dynamic), row.neutral && row.nodePorts != 0 && !row.nodePorts.Neutral():
			t.Errorf("%s: %+v: its elements lead somewhere", row.name, row)
		case row.owners == nobodys && (row.onDemand || row.serves || row.forwards):
			t.Errorf("%s: %+v: nobody has its elements", row.name, row)
		}
	}
}

// example is the ID of a set of the kind.
func (k SetKind) example() SetID {
	return map[Naming]SetID{One: {Kind: k}, Sharded: {Kind: k, Shard: 0x2f}, PerPort: {Kind: k, Of: "/default/web/http"}}[k.row().names]
}

// TestKeyPartsAreComplete: each part of a key has a row, and nothing of a key is left out.
func TestKeyPartsAreComplete(t *testing.T) {
	key := Key{Addr: netip.MustParseAddr("10.0.0.1"), Protocol: SCTP, Port: 2, ID: 3, Index: 4}
	used := map[KeyPart]bool{}
	for _, k := range SetKinds() {
		for _, p := range k.Key() {
			used[p] = true
		}
	}
	for p := range NumKeyParts {
		row := keyParts[p]
		if row.dataType == "" || row.expression == "" || row.value == nil || row.bytes == nil || !used[p] {
			t.Errorf("part %d: %+v, used: %t", p, row, used[p])
			continue
		}
		if len(row.bytes(nil, key)) == 0 || row.value(key) == row.value(Key{}) {
			t.Errorf("part %d: nothing of %+v", p, key)
		}
	}
}
