// SPDX-License-Identifier: Apache-2.0

//go:build linux

package wire

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/rulestest"
)

// TestSchemaSame: a set of our name whose declaration differs in any field that elements depend on is not ours.
func TestSchemaSame(t *testing.T) {
	base := rulestest.Filled[schema]()
	rulestest.Flips(func(field string, flipped schema) {
		ignored := strings.HasPrefix(field, ".userdata") || field == ".counted" // compared elsewhere; how nft prints it
		if base.same(flipped) != ignored || flipped.same(base) != ignored {
			t.Errorf("a difference in %s: it is the same: %v", field, !ignored)
		}
	})
}

// TestKeyPartsAreComplete: each part of a key has a row, in both families.
func TestKeyPartsAreComplete(t *testing.T) {
	for p, row := range keyParts {
		for _, f := range rules.Families {
			if row.dataType[f] == 0 || row.length[f] == 0 || row.typeof == nil || len(row.typeof(f)) == 0 {
				t.Errorf("part %d (%s): %d, %d bytes: its row is not complete", p, f, row.dataType[f], row.length[f])
			}
		}
	}
}

// TestSetKinds: a set of each kind has a declaration, and its keys are read as they are written.
func TestSetKinds(t *testing.T) {
	for _, f := range rules.Families {
		all := rules.Key{Addr: addr(f), Protocol: rules.SCTP, Port: 80, ID: 914, Index: 1<<16 + 3}
		for _, k := range rules.SetKinds() {
			want := rules.Key{}
			for _, p := range k.Key() {
				switch p {
				case rules.KeyAddr, rules.KeySameAddr:
					want.Addr = all.Addr
				case rules.KeyProtocol:
					want.Protocol = all.Protocol
				case rules.KeyPort:
					want.Port = all.Port
				case rules.KeyID:
					want.ID = all.ID
				case rules.KeyCounter, rules.KeyChoice:
					want.Index = all.Index
				}
			}
			written := appendKey([]byte{1}, k, &all)[1:]
			if s := schemaOf(f, k); len(written) != int(s.keyLen) || s.keyType == 0 || (s.dataLen > 0) != k.IsMap() {
				t.Errorf("%s kind %d: a key of %d bytes in a set %+v", f, k, len(written), s)
			}
			if got, odd, ok := parseKey(f, k, written); !ok || odd != "" || got != want {
				t.Errorf("%s kind %d: %x is read as %+v (%t) %s, want %+v", f, k, written, got, ok, odd, want)
			}
			if _, _, ok := parseKey(f, k, written[:len(written)-1]); ok {
				t.Errorf("%s kind %d: a key that is cut off is read", f, k)
			}
		}
	}
}

// TestTwoAddresses: a key with two addresses where ours have the same one twice is none of ours.
func TestTwoAddresses(t *testing.T) {
	for _, f := range rules.Families {
		key := appendAddr(appendAddr(nil, addr(f)), addr(f).Next())
		want := "an element of two addresses (" + addr(f).String() + " . " + addr(f).Next().String() + ")"
		if _, odd, ok := parseKey(f, rules.Hairpin, key); !ok || odd != want {
			t.Errorf("%s: %q (%t), want %q", f, odd, ok, want)
		}
	}
}

// addr is an address of a family.
func addr(f rules.Family) netip.Addr {
	if f == rules.IPv4 {
		return netip.AddrFrom4([4]byte{10, 96, 0, 1})
	}
	return netip.AddrFrom16([16]byte{0xfd, 15: 1})
}
