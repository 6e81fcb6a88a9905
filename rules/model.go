// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"cmp"
	"fmt"
	"net/netip"
	"strings"
)

// Chain is a chain with its rules. Hook is nil for a chain that other chains
// jump or go to.
type Chain struct {
	Name  string
	Hook  *Hook
	Rules []Rule
}

// Hook is what makes a chain a base chain. All of ours are of type nat and
// accept what no rule decides.
type Hook struct {
	Number   HookNumber
	Priority int32
}

// HookNumber is a netfilter hook, with the kernel's numbers.
type HookNumber uint32

// The hooks of our base chains.
const (
	HookPrerouting  HookNumber = 0
	HookOutput      HookNumber = 3
	HookPostrouting HookNumber = 4
)

// String returns nft's name of the hook.
func (h HookNumber) String() string {
	switch h {
	case HookPrerouting:
		return "prerouting"
	case HookOutput:
		return "output"
	case HookPostrouting:
		return "postrouting"
	}
	return fmt.Sprintf("hook %d", uint32(h))
}

// Rule is a list of statements that are carried out in order until one does not
// match or decides.
type Rule []Statement

// Equal says whether two chains are the same, rule for rule.
func (c Chain) Equal(o Chain) bool {
	if c.Name != o.Name || (c.Hook == nil) != (o.Hook == nil) || len(c.Rules) != len(o.Rules) {
		return false
	}
	if c.Hook != nil && *c.Hook != *o.Hook {
		return false
	}
	for i := range c.Rules {
		if !c.Rules[i].equal(o.Rules[i]) {
			return false
		}
	}
	return true
}

func (r Rule) equal(o Rule) bool {
	if len(r) != len(o) {
		return false
	}
	for i := range r {
		if r[i] != o[i] {
			return false
		}
	}
	return true
}

// SetKind says what the keys and values of a set or map are.
type SetKind uint8

// The kinds, in the order in which their elements are added. A set comes after
// those that its elements rely on, so that a long transaction that is cut in two
// leaves nothing half working: endpoints before what sends packets to them, and
// the reject of unknown ports last. Elements are deleted in the reverse order.
const (
	Protocols  SetKind = iota // set of protocols that Services can have
	Endpoints                 // map: (id, index) -> address and port; in shards
	Hairpin                   // set: (address, the same address) of endpoints on this node
	Single                    // map: frontend -> the only endpoint's address and port
	ServiceIPs                // map: frontend -> verdict
	ClusterIPs                // set of all ClusterIPs
	setKinds
)

// Shards is the number of maps that endpoints are spread over. The kernel checks
// each element added to a map against each rule that reads the map, so few rules
// should read one map; and it finds sets by walking the table's list of them, so
// there should be few sets.
const Shards = 256

// SetID names a set or map in a table. Shard is used by Endpoints only.
type SetID struct {
	Kind  SetKind
	Shard uint8
}

// Name returns the set's name in the kernel.
func (s SetID) Name() string {
	switch s.Kind {
	case Protocols:
		return "protocols"
	case Endpoints:
		return fmt.Sprintf("endpoints-%02x", s.Shard)
	case Hairpin:
		return "hairpin"
	case Single:
		return "single"
	case ServiceIPs:
		return "service-ips"
	case ClusterIPs:
		return "cluster-ips"
	}
	return fmt.Sprintf("set-%d", s.Kind)
}

// ParseSetID returns the SetID that has the name.
func ParseSetID(name string) (SetID, bool) {
	for k := range setKinds {
		if id := (SetID{Kind: k}); k != Endpoints && id.Name() == name {
			return id, true
		}
	}
	var shard uint8
	if _, err := fmt.Sscanf(name, "endpoints-%02x", &shard); err == nil {
		if id := (SetID{Kind: Endpoints, Shard: shard}); id.Name() == name {
			return id, true
		}
	}
	return SetID{}, false
}

func (s SetID) compare(o SetID) int {
	return cmp.Or(cmp.Compare(s.Kind, o.Kind), cmp.Compare(s.Shard, o.Shard))
}

// Key is the key of an element. Which fields it has depends on the kind of the
// set: Protocols has Protocol; Endpoints has ID and Index; Hairpin and ClusterIPs
// have Addr; Single and ServiceIPs have Addr, Protocol and Port.
type Key struct {
	Addr     netip.Addr
	Protocol Protocol
	Port     uint16
	ID       uint32
	Index    uint32
}

func (k Key) compare(o Key) int {
	return cmp.Or(k.Addr.Compare(o.Addr), cmp.Compare(k.Protocol, o.Protocol), cmp.Compare(k.Port, o.Port),
		cmp.Compare(k.ID, o.ID), cmp.Compare(k.Index, o.Index))
}

// Value is the value of a map's element: To for Endpoints and Single, the chain
// that Goto names for ServiceIPs.
type Value struct {
	To   netip.AddrPort
	Goto string
}

// Element is an element of a set (with no value) or of a map.
type Element struct {
	Key
	Value
}

// SetElements is some elements of one set, sorted by key.
type SetElements struct {
	Set      SetID
	Elements []Element
}

// Objects is what one owner has in the table of its family. The sets that it has
// elements in are named by Sets, in order; elements of Hairpin and ClusterIPs may
// be shared with other owners.
type Objects struct {
	Chains []Chain
	Sets   []SetElements
}

// shared says whether several owners may have the same element in sets of this kind.
func (k SetKind) shared() bool { return k == Hairpin || k == ClusterIPs }

// Table is what one of the two tables holds.
type Table struct {
	Chains map[string]Chain
	Sets   map[SetID]map[Key]Value
	// Foreign lists the names of sets that are not ours, found by reading the
	// kernel. They are deleted.
	Foreign []string
	// Dormant says that somebody switched the table's chains off.
	Dormant bool
}

// State is what the kernel holds, or should hold. A table that does not exist
// is nil.
type State struct {
	Name   string // of both tables
	Tables [2]*Table
}

// NewTable returns an empty table.
func NewTable() *Table {
	return &Table{Chains: map[string]Chain{}, Sets: map[SetID]map[Key]Value{}}
}

// chainRank orders chains so that a chain comes after those that it jumps to:
// chains of services, then the shared ones, then the hooked ones.
func chainRank(c Chain) int {
	switch {
	case c.Hook != nil:
		return 2
	case strings.Contains(c.Name, "/"):
		return 0
	}
	return 1
}
