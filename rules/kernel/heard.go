// SPDX-License-Identifier: Apache-2.0

//go:build linux

package kernel

import (
	"slices"

	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/rules"
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

// heard collects what events tell, of any number of commits.
type heard struct {
	things   map[rules.Thing]bool
	elements map[rules.Thing]int // how many of a set
	all      bool                // what was changed is not known, or is too much
	open     bool                // there was something since the last commit's end
	by       []rules.Process
}

// add adds a thing.
func (h *heard) add(t rules.Thing) {
	h.open = true
	if h.all {
		return
	}
	if h.things == nil {
		h.things, h.elements = map[rules.Thing]bool{}, map[rules.Thing]int{}
	}
	if t.Kind == rules.ThingElement {
		set := rules.Thing{Kind: rules.ThingSet, Family: t.Family, Name: t.Name}
		if h.things[set] || h.things[t] {
			return
		}
		if h.elements[set]++; h.elements[set] > mostElements {
			for other := range h.things {
				if other.Kind == rules.ThingElement && other.Family == t.Family && other.Name == t.Name {
					delete(h.things, other)
				}
			}
			t = set
		}
	}
	if h.things[t] = true; len(h.things) > mostThings {
		h.everything()
	}
}

// everything notes that anything may have been changed.
func (h *heard) everything() { h.things, h.elements, h.all, h.open = nil, nil, true, true }

// commit notes who did what was heard since the last commit, and says whether that was anything.
func (h *heard) commit(p rules.Process) bool {
	if !h.open {
		return false
	}
	h.open = false
	if p.PID != 0 && len(h.by) < mostProcesses && !slices.Contains(h.by, p) {
		h.by = append(h.by, p)
	}
	return true
}

// touched returns what was heard.
func (h *heard) touched() rules.Touched {
	out := rules.Touched{By: h.by}
	for t := range h.things {
		out.Things = append(out.Things, t)
	}
	return out
}

// event adds what an event tells of the tables of a name.
func (h *heard) event(m message, table string) {
	if !concerns(m, table) {
		return
	}
	t := rules.Thing{Family: rules.IPv4}
	switch m.data[0] { // nfgenmsg's nfgen_family
	case unix.NFPROTO_IPV4:
	case unix.NFPROTO_IPV6:
		t.Family = rules.IPv6
	default:
		return // another table of the same name
	}
	attr := func(want uint16) (name string) {
		eachAttr(m.data[4:], func(typ uint16, v []byte) {
			if typ == want {
				name = text(v)
			}
		})
		return name
	}
	switch m.typ & 0xff {
	case unix.NFT_MSG_NEWTABLE:
		t.Kind = rules.ThingTable
	case unix.NFT_MSG_DELTABLE:
		h.everything()
		return
	case unix.NFT_MSG_NEWCHAIN, unix.NFT_MSG_DELCHAIN:
		t.Kind, t.Name = rules.ThingChain, attr(unix.NFTA_CHAIN_NAME)
	case unix.NFT_MSG_NEWRULE, unix.NFT_MSG_DELRULE:
		t.Kind, t.Name = rules.ThingChain, attr(unix.NFTA_RULE_CHAIN)
	case unix.NFT_MSG_NEWSET, unix.NFT_MSG_DELSET:
		t.Kind, t.Name = rules.ThingSet, attr(unix.NFTA_SET_NAME)
	case unix.NFT_MSG_NEWSETELEM, unix.NFT_MSG_DELSETELEM:
		h.elementEvent(t.Family, attr(unix.NFTA_SET_ELEM_LIST_SET), m.data[4:])
		return
	default:
		t.Kind = rules.ThingOther
	}
	h.add(t)
}

// elementEvent adds the elements that an event names, or their set where they do not stand for themselves.
func (h *heard) elementEvent(f rules.Family, set string, attrs []byte) {
	whole := rules.Thing{Kind: rules.ThingSet, Family: f, Name: set}
	id, ours := rules.ParseSetID(set)
	if !ours || id.Kind.Interval() {
		h.add(whole)
		return
	}
	n := 0
	eachElement(f, id.Kind, attrs, func(e element) {
		if n++; e.catchall {
			h.add(whole)
			return
		}
		h.add(rules.Thing{Kind: rules.ThingElement, Family: f, Name: set, Key: e.Key})
	})
	if n == 0 { // a set of our name whose elements are not ours
		h.add(whole)
	}
}

// process returns who made a generation, as the event about it says.
func process(m message) (p rules.Process) {
	eachAttr(m.data[4:], func(typ uint16, v []byte) {
		switch typ {
		case genAttrPID:
			p.PID = be32(v)
		case genAttrName:
			p.Name = text(v)
		}
	})
	return p
}
