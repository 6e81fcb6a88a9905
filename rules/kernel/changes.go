// SPDX-License-Identifier: Apache-2.0

//go:build linux

package kernel

import (
	"slices"

	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/nfnetlink"
	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/wire"
)

// How much is remembered of what others change: so many elements of a set, then the set; so many things, then
// that something was changed; so many processes.
const (
	mostElements  = 64
	mostThings    = 256
	mostProcesses = 4
)

// NFTA_GEN_PROC_PID and NFTA_GEN_PROC_NAME, which package unix does not have.
const (
	genAttrPID  = 2
	genAttrName = 3
)

// changes are what events tell, of any number of commits.
type changes struct {
	things   map[rules.Thing]bool
	elements map[rules.Thing]int // how many of a set
	all      bool                // what was changed is not known, or is too much
	open     bool                // there was something since the last commit's end
	by       []rules.Process
}

// add adds a thing.
func (c *changes) add(t rules.Thing) {
	c.open = true
	if c.all {
		return
	}
	if c.things == nil {
		c.things, c.elements = map[rules.Thing]bool{}, map[rules.Thing]int{}
	}
	if t.Kind == rules.ThingElement {
		set := rules.Thing{Kind: rules.ThingSet, Family: t.Family, Name: t.Name}
		if c.things[set] || c.things[t] {
			return
		}
		if c.elements[set]++; c.elements[set] > mostElements {
			for other := range c.things {
				if other.Kind == rules.ThingElement && other.Family == t.Family && other.Name == t.Name {
					delete(c.things, other)
				}
			}
			t = set
		}
	}
	if c.things[t] = true; len(c.things) > mostThings {
		c.everything()
	}
}

// everything notes that anything may have been changed.
func (c *changes) everything() { c.things, c.elements, c.all, c.open = nil, nil, true, true }

// commit notes who did what events told since the last commit, and says whether that was anything.
func (c *changes) commit(p rules.Process) bool {
	if !c.open {
		return false
	}
	c.open = false
	if p.PID != 0 && len(c.by) < mostProcesses && !slices.Contains(c.by, p) {
		c.by = append(c.by, p)
	}
	return true
}

// touched returns what was changed.
func (c *changes) touched() rules.Touched {
	out := rules.Touched{By: c.by}
	for t := range c.things {
		out.Things = append(out.Things, t)
	}
	return out
}

// event adds what an event tells of the tables of a name.
func (c *changes) event(m nfnetlink.Message, table string) {
	if !concerns(m, table) {
		return
	}
	t := rules.Thing{Family: rules.IPv4}
	switch m.Family() {
	case unix.NFPROTO_IPV4:
	case unix.NFPROTO_IPV6:
		t.Family = rules.IPv6
	default:
		return // another table of the same name
	}
	attr := func(want uint16) (name string) {
		for typ, v := range m.Attributes() {
			if typ == want {
				name = v.Text()
			}
		}
		return name
	}
	switch m.Type & 0xff {
	case unix.NFT_MSG_NEWTABLE:
		t.Kind = rules.ThingTable
	case unix.NFT_MSG_DELTABLE:
		c.everything()
		return
	case unix.NFT_MSG_NEWCHAIN, unix.NFT_MSG_DELCHAIN:
		t.Kind, t.Name = rules.ThingChain, attr(unix.NFTA_CHAIN_NAME)
	case unix.NFT_MSG_NEWRULE, unix.NFT_MSG_DELRULE:
		t.Kind, t.Name = rules.ThingChain, attr(unix.NFTA_RULE_CHAIN)
	case unix.NFT_MSG_NEWSET, unix.NFT_MSG_DELSET:
		t.Kind, t.Name = rules.ThingSet, attr(unix.NFTA_SET_NAME)
	case unix.NFT_MSG_NEWSETELEM, unix.NFT_MSG_DELSETELEM:
		c.elementEvent(t.Family, attr(unix.NFTA_SET_ELEM_LIST_SET), m.Body())
		return
	default:
		t.Kind = rules.ThingOther
	}
	c.add(t)
}

// elementEvent adds the elements that an event names, or their set where they do not stand for themselves.
func (c *changes) elementEvent(f rules.Family, set string, attrs nfnetlink.Data) {
	whole := rules.Thing{Kind: rules.ThingSet, Family: f, Name: set}
	id, ours := rules.ParseSetID(set)
	if !ours || id.Kind.Interval() {
		c.add(whole)
		return
	}
	n := 0
	wire.EachElement(f, id.Kind, attrs, func(e wire.Element) {
		if n++; e.OddKey != "" {
			c.add(whole)
			return
		}
		c.add(rules.Thing{Kind: rules.ThingElement, Family: f, Name: set, Key: e.Key})
	})
	if n == 0 { // a set of our name whose elements are not ours
		c.add(whole)
	}
}

// process returns who made a generation, as the event about it says.
func process(m nfnetlink.Message) (p rules.Process) {
	for typ, v := range m.Attributes() {
		switch typ {
		case genAttrPID:
			p.PID = v.U32()
		case genAttrName:
			p.Name = v.Text()
		}
	}
	return p
}
