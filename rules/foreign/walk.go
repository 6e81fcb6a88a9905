// SPDX-License-Identifier: Apache-2.0

//go:build linux

package foreign

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/rules"
)

// mostWays bounds how many choices are followed for one packet.
const mostWays = 1 << 16

// Connect follows a packet, through each choice, and returns the ways that there are, each once.
func (r *Ruleset) Connect(p Packet) ([]Way, error) {
	var out []Way
	seen := map[Way]bool{}
	var c choices
	for n := 0; ; n++ {
		if n == mostWays {
			return nil, fmt.Errorf("follow a connection to %s: there are more than %d choices", p.Dst, mostWays)
		}
		w := walk{packet: p, choices: &c, way: Way{To: p.Dst}}
		if err := w.follow(r); err != nil {
			return nil, fmt.Errorf("follow a connection to %s: %w", p.Dst, err)
		}
		if !seen[w.way] {
			seen[w.way] = true
			out = append(out, w.way)
		}
		if !c.advance() {
			return out, nil
		}
	}
}

// choices walks through all combinations of what can be chosen.
type choices struct {
	path []choice
	at   int
}

type choice struct{ of, i int }

// next chooses one of so many.
func (c *choices) next(of int) int {
	if c.at == len(c.path) {
		c.path = append(c.path, choice{of: of})
	}
	c.at++
	return c.path[c.at-1].i
}

// advance goes on to the next combination; false if there is none.
func (c *choices) advance() bool {
	for len(c.path) > 0 && c.path[len(c.path)-1].i+1 >= c.path[len(c.path)-1].of {
		c.path = c.path[:len(c.path)-1]
	}
	if len(c.path) == 0 {
		return false
	}
	c.path[len(c.path)-1].i++
	c.at = 0
	return true
}

// verdict is what a rule says, as the kernel writes it.
type verdict struct {
	code  int32
	chain string
}

// walk is one packet on its way.
type walk struct {
	packet  Packet
	choices *choices
	way     Way

	table     *table
	regs      [80]byte
	network   [40]byte // header
	transport [20]byte // header
	mark      uint32
	depth     int
}

// next says what comes after an expression.
type next int

// What may come.
const (
	goOn     next = iota
	noMatch       // the rule ends
	decided       // the hook's chain ends: the packet goes on
	ended         // the packet ends
	returned      // to the chain that has called this one
)

// op is an expression of a rule.
type op func(*walk) (next, error)

// deepest is how deep the kernel lets chains call each other.
const deepest = 16

func (w *walk) follow(r *Ruleset) error {
	w.headers()
	hooks := []uint32{unix.NF_INET_PRE_ROUTING}
	if w.packet.Interface == "" {
		hooks[0] = unix.NF_INET_LOCAL_OUT
	}
	if done, err := w.hook(r, hooks[0]); done || err != nil {
		return err
	}
	switch {
	case w.packet.Local(w.way.To.Addr()):
		hooks = []uint32{unix.NF_INET_LOCAL_IN}
	case w.packet.Interface == "":
		hooks = []uint32{unix.NF_INET_POST_ROUTING}
	default:
		hooks = []uint32{unix.NF_INET_FORWARD, unix.NF_INET_POST_ROUTING}
	}
	for _, h := range hooks {
		if done, err := w.hook(r, h); done || err != nil {
			return err
		}
	}
	return nil
}

// hook goes through the base chains of a hook. done says that the packet ends there.
func (w *walk) hook(r *Ruleset, hook uint32) (done bool, err error) {
	type at struct {
		*table
		*chain
	}
	var list []at
	for _, t := range r.tables {
		if t.family != rules.FamilyOf(w.packet.Dst.Addr()) {
			continue
		}
		for _, c := range t.chains {
			if c.base && c.hook == hook {
				list = append(list, at{t, c})
			}
		}
	}
	slices.SortFunc(list, func(a, b at) int {
		return cmp.Or(cmp.Compare(a.priority, b.priority), cmp.Compare(a.table.name, b.table.name))
	})
	for _, c := range list {
		w.table = c.table
		n, err := w.chain(c.chain)
		if err != nil {
			return false, fmt.Errorf("table %s %s: %w", c.table.family, c.table.name, err)
		}
		if n == ended {
			return true, nil
		}
	}
	return false, nil
}

func (w *walk) chain(c *chain) (next, error) {
	if w.depth++; w.depth > deepest {
		return ended, fmt.Errorf("chain %s: chains call each other more than %d deep", c.name, deepest)
	}
	defer func() { w.depth-- }()
	for i := range c.rules {
		n := goOn
		var err error
		for _, o := range c.rules[i].ops {
			if n, err = o(w); n != goOn || err != nil {
				break
			}
		}
		switch {
		case err != nil:
			return ended, fmt.Errorf("rule %d of chain %s: %w", i+1, c.name, err)
		case n == decided, n == ended:
			return n, nil
		case n == returned:
			return goOn, nil
		}
	}
	return goOn, nil
}

// carryOut carries out a verdict.
func (w *walk) carryOut(v *verdict) (next, error) {
	switch v.code {
	case unix.NFT_CONTINUE:
		return goOn, nil
	case unix.NFT_BREAK:
		return noMatch, nil
	case unix.NFT_RETURN:
		return returned, nil
	case unix.NFT_JUMP, unix.NFT_GOTO:
		c := w.table.chains[v.chain]
		if c == nil {
			return ended, fmt.Errorf("chain %s was not listed", v.chain)
		}
		n, err := w.chain(c)
		if n == goOn && v.code == unix.NFT_GOTO {
			n = returned
		}
		return n, err
	case 1: // NF_ACCEPT
		return decided, nil
	case 0: // NF_DROP
		w.way.Dropped = true
		return ended, nil
	}
	return ended, fmt.Errorf("verdict %d is not known", v.code)
}

// translate sends the packet elsewhere; port 0: to the same port.
func (w *walk) translate(to netip.Addr, port uint16) (next, error) {
	if port == 0 {
		port = w.way.To.Port()
	}
	if !to.IsValid() {
		to = w.way.To.Addr()
	}
	w.way.To, w.way.Translated = netip.AddrPortFrom(to, port), true
	w.headers()
	return decided, nil
}

// headers writes the packet's headers as they are now.
func (w *walk) headers() {
	src, dst := w.packet.Src.Addr(), w.way.To.Addr()
	if dst.Is4() {
		w.network[0] = 0x45
		w.network[9] = byte(w.packet.Protocol)
		copy(w.network[12:], src.AsSlice())
		copy(w.network[16:], dst.AsSlice())
	} else {
		w.network[0] = 0x60
		w.network[6] = byte(w.packet.Protocol)
		copy(w.network[8:], src.AsSlice())
		copy(w.network[24:], dst.AsSlice())
	}
	binary.BigEndian.PutUint16(w.transport[0:], w.packet.Src.Port())
	binary.BigEndian.PutUint16(w.transport[2:], w.way.To.Port())
	if w.packet.Protocol == rules.TCP {
		w.transport[12], w.transport[13] = 5<<4, 2 // SYN
	}
}
