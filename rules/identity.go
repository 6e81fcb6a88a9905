// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"crypto/sha256"
	"encoding/binary"
)

// identity is what tells the endpoints of a chain from all others': 8 bits that
// choose the map, 32 bits of the key's first part, and 16 bits above the index in
// its second part. Two of 45,000 chains share these 56 bits once in 70 million
// clusters; the kernel then refuses the second one's elements.
type identity struct {
	set    SetID
	id     uint32
	offset uint32
}

func identify(chain string) identity {
	h := sha256.Sum256([]byte(chain))
	return identity{
		set:    SetID{Kind: Endpoints, Shard: h[0]},
		id:     binary.BigEndian.Uint32(h[1:]),
		offset: uint32(binary.BigEndian.Uint16(h[5:])) << 16,
	}
}

// stay is the map where the chain looks up the endpoints that its clients are remembered with. Their keys
// have 16 bits of the identity less: two of 45,000 chains share the 40 bits that are left once in a
// thousand clusters, which harms only if they have session affinity and an endpoint in common.
func (id identity) stay() SetID { return SetID{Kind: Stay, Shard: id.set.Shard} }

// has says whether an element of a set is the chain's.
func (id identity) has(set SetID, k Key) bool {
	switch set {
	case id.set:
		return k.ID == id.id && k.Index&^(1<<16-1) == id.offset
	case id.stay(), SetID{Kind: Silent}:
		return k.ID == id.id
	}
	return false
}
