// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"cmp"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/nftproxy/nftproxy/printable"
)

// Chain is a chain with its rules. Hook is nil for a chain that other chains
// jump or go to.
type Chain struct {
	Name  string
	Hook  *Hook
	Rules []Rule
}

// Hook is what makes a chain a base chain. Ours accept what no rule decides.
type Hook struct {
	Number   HookNumber
	Priority int32
	// Filter says that the chain is of type filter, which sees every packet; else it is of type nat, which sees the first one
	// of each connection.
	Filter bool
}

// Type returns nft's name of the chain's type.
func (h Hook) Type() string {
	if h.Filter {
		return "filter"
	}
	return "nat"
}

// HookNumber is a netfilter hook, with the kernel's numbers.
type HookNumber uint32

// The hooks of our base chains.
const (
	HookPrerouting  HookNumber = 0
	HookInput       HookNumber = 1
	HookOutput      HookNumber = 3
	HookPostrouting HookNumber = 4
)

// String returns nft's name of the hook.
func (h HookNumber) String() string {
	switch h {
	case HookPrerouting:
		return "prerouting"
	case HookInput:
		return "input"
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

// Shards is the number of maps that endpoints are spread over. The kernel checks
// each element added to a map against each rule that reads the map, so few rules
// should read one map; and it finds sets by walking the table's list of them, so
// there should be few sets.
const Shards = 256

// SetID names a set or map in a table. Sharded kinds have a Shard; Of is the rest of the name where
// each service port has its own.
type SetID struct {
	Kind  SetKind
	Shard uint8
	Of    string
}

// Name returns the set's name in the kernel.
func (s SetID) Name() string {
	switch row := s.Kind.row(); row.names {
	case Sharded:
		return fmt.Sprintf("%s-%02x", row.name, s.Shard)
	case PerPort:
		return row.name + s.Of
	default:
		return row.name
	}
}

// ParseSetID returns the SetID that has the name.
func ParseSetID(name string) (SetID, bool) {
	for k := range numSetKinds {
		id := SetID{Kind: k}
		rest, ok := strings.CutPrefix(name, k.row().name)
		if !ok {
			continue
		}
		switch k.row().names {
		case PerPort:
			if id.Of = rest; strings.Contains(rest, "/") {
				return id, true
			}
		case Sharded:
			n, err := strconv.ParseUint(strings.TrimPrefix(rest, "-"), 16, 8)
			if id.Shard = uint8(n); err == nil && id.Name() == name {
				return id, true
			}
		default:
			if rest == "" {
				return id, true
			}
		}
	}
	return SetID{}, false
}

// variantLocal begins the rest of the name of a set that is for the traffic policy Local.
const variantLocal = "-local"

// portSet names a service port's own set; local is the one for the traffic policy Local.
func portSet(k SetKind, n ServicePortName, local bool) SetID {
	if local {
		return SetID{Kind: k, Of: variantLocal + n.suffix()}
	}
	return SetID{Kind: k, Of: n.suffix()}
}

// ServicePort returns whose own set it is, and whether it is the one for the traffic policy Local. The name is empty if
// it is no service port's own.
func (s SetID) ServicePort() (n ServicePortName, local bool) {
	variant, of, _ := strings.Cut(s.Of, "/")
	return parseSuffix(of), variant == variantLocal
}

func (s SetID) compare(o SetID) int {
	return cmp.Or(cmp.Compare(s.Kind, o.Kind), cmp.Compare(s.Shard, o.Shard), cmp.Compare(s.Of, o.Of))
}

// Key is the key of an element. Which fields it has depends on the kind of the set: see SetKind.Key. Addr is the first of a
// range in a set of ranges.
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

// Value is the value of a map's element: To for maps to endpoints, the chain that
// Goto names for maps to verdicts. In a set of ranges, To's address is the last of a range.
type Value struct {
	To   netip.AddrPort
	Goto string
}

// Element is an element of a set (with no value) or of a map.
type Element struct {
	Key
	Value
}

// Refuses says that the element is of a frontend without endpoints.
func (e Element) Refuses() bool { return e.Goto != "" && ParseChainID(e.Goto).Role.Refuses() }

// SetElements is some elements of one set, sorted by key.
type SetElements struct {
	Set      SetID
	Elements []Element
}

// Objects is what one owner has in the table of its family. The sets that it has
// elements in are named by Sets, in order; elements of Hairpin and ClusterIPs, and
// Shared chains, may be shared with other owners.
type Objects struct {
	Chains   []Chain
	Shared   []Chain
	Sets     []SetElements
	Affinity []AffinityMap
	// Failover says that unanswered connections are to be noted: see failover.go.
	Failover bool
	// LeftOut is how many endpoints are beyond the service port's limit.
	LeftOut int
}

// AffinityMap is a map or a set that the kernel fills. Most are maps of which clients stay with which
// endpoint. Clients of an endpoint that is gone are in it until they connect again, or
// their time is over: see DNATRemembered.
type AffinityMap struct {
	Set  SetID
	Size uint32
	// Clients says how long the clients in the map are remembered: in what was
	// read from the kernel only.
	Clients map[Key]Lifetime
}

// Lifetime is how long an element of a map that the kernel fills stays after its
// last use, and how long it still will, in milliseconds.
type Lifetime struct{ Timeout, Expires uint64 }

// Counter is what a connection counter of an element has come to.
type Counter struct{ Packets, Bytes uint64 }

// Table is what one of the two tables holds.
type Table struct {
	Chains map[string]Chain
	Sets   map[SetID]map[Key]Value
	// Affinity holds the maps that the kernel fills. In a listing that was read
	// from the kernel their elements are in Sets.
	Affinity map[SetID]AffinityMap
	// Foreign lists the names of sets that are not ours, found by reading the
	// kernel. They are deleted.
	Foreign []string
	// Objects are other things that are not ours, found likewise. They are deleted.
	Objects []ForeignObject
	// Odd tells what else somebody made otherwise. It cannot be changed in what stands: the table is replaced.
	Odd []Oddity
	// Counted says that the maps whose kind counts do count.
	Counted bool
	// Counters are those of elements: in a listing that was read from the kernel only.
	Counters map[SetID]map[Key]Counter
	// SetOrder and ChainOrder are the order in which the kernel lists what was
	// read from it; empty: not known.
	SetOrder   []SetID
	ChainOrder []string
	// Dormant says that somebody switched the table's chains off.
	Dormant bool
	// Tenure says who may change the table.
	Tenure Tenure
}

// ForeignObject is something in a table that is neither a chain nor a set: we make none. Type is the kernel's number
// of the type of an object such as a counter; 0 for a flowtable.
type ForeignObject struct {
	Type uint32
	Name string
}

// String names the object as nft does.
func (o ForeignObject) String() string {
	names := [...]string{0: "flowtable", 1: "counter", 2: "quota", 3: "ct helper", 4: "limit", 5: "counter of connections", 6: "tunnel",
		7: "ct timeout", 8: "secmark", 9: "ct expectation", 10: "synproxy"}
	if int(o.Type) < len(names) {
		return names[o.Type] + " " + printable.Word(o.Name)
	}
	return fmt.Sprintf("object of type %d %s", o.Type, printable.Word(o.Name))
}

// Oddity is something that a chain or a set has and ours have not, such as a comment; the table itself, if neither
// is named.
type Oddity struct {
	Chain, Set string
	What       string
}

// String names what is odd, and about which object.
func (o Oddity) String() string {
	switch {
	case o.Chain != "":
		return "chain " + printable.Word(o.Chain) + " has " + o.What
	case o.Set != "":
		return "set " + printable.Word(o.Set) + " has " + o.What
	}
	return "the table has " + o.What
}

// State is what the kernel holds, or should hold. A table that does not exist
// is nil.
type State struct {
	Name   string // of both tables
	Tables [2]*Table
}

// NewTable returns an empty table.
func NewTable() *Table {
	return &Table{Chains: map[string]Chain{}, Sets: map[SetID]map[Key]Value{}, Affinity: map[SetID]AffinityMap{}}
}

// chainRanks is the number of ranks of chains.
const chainRanks = 4

// chainRank orders chains so that a chain comes after those that it jumps or goes to.
func chainRank(c Chain) int {
	if c.Hook != nil {
		return chainRanks - 1
	}
	return ParseChainID(c.Name).Role.row().rank
}

// oddMark begins the Goto of a value that is not as ours are: no chain has such a name.
const oddMark = "("

// OddGoto returns what stands for a verdict that is none of ours, or something else that a value should not have.
func OddGoto(what, chain string) string { return oddMark + what + ") " + printable.Word(chain) }
