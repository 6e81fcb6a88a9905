// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"net/netip"

	"github.com/nftproxy/nftproxy/rules"
)

// AffinityUsage is how full a map of clients is.
type AffinityUsage struct {
	Family  rules.Family
	Map     string // its name
	Clients int
	Size    uint32
}

// Connections is how many new connections a frontend has had since its element was added.
type Connections struct {
	Family rules.Family
	Set    rules.SetID
	rules.Element
	rules.Counter
}

// Client is a client that stays with an endpoint.
type Client struct {
	Of    rules.Owner
	Local bool // for connections under the policy Local
	Addr  netip.Addr
	To    netip.AddrPort
	// Expires is for how long it is remembered, in milliseconds.
	Expires uint64
}

// Presence is what is there of a table.
type Presence struct {
	Table    bool // it is there
	Forwards bool // it is in force, and leads to an endpoint
}

// BaseChain is a chain at a hook, anybody's.
type BaseChain struct {
	Family      string // ip, ip6 or inet
	Table, Name string
	Type        string // such as nat or filter
	Hook        rules.HookNumber
	Priority    int32
	Drops       bool // its policy is drop
}
