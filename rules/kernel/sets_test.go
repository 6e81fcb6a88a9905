// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"testing"

	"github.com/nftproxy/nftproxy/rules"
)

// TestSetKinds: a set of each kind has a declaration, and its keys are read as they are written.
func TestSetKinds(t *testing.T) {
	for _, f := range rules.Families {
		all := rules.Key{Addr: address(f, 96, 1), Protocol: rules.SCTP, Port: 80, ID: 914, Index: 1<<16 + 3}
		for _, k := range rules.SetKinds() {
			want := rules.Key{}
			for _, p := range k.Key() {
				if int(p) >= len(keyParts) || keyParts[p].dataType[f] == 0 || keyParts[p].length[f] == 0 || keyParts[p].typeof == nil {
					t.Fatalf("part %d has no row", p)
				}
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
			if got, ok := parseKey(f, k, written); !ok || got != want {
				t.Errorf("%s kind %d: %x is read as %+v (%t), want %+v", f, k, written, got, ok, want)
			}
			if _, ok := parseKey(f, k, written[:len(written)-1]); ok {
				t.Errorf("%s kind %d: a key that is cut off is read", f, k)
			}
		}
	}
}
