// SPDX-License-Identifier: Apache-2.0

package fate

import (
	"fmt"
	"hash/fnv"
	"net/netip"
	"slices"
	"strings"

	"github.com/nftproxy/nftproxy/rules"
)

// Packet is the first packet of a connection.
type Packet struct {
	Protocol rules.Protocol
	Src, Dst netip.AddrPort
	// Interface is where it comes in; empty for one from the node itself.
	Interface string
}

// Fate is what becomes of a packet.
type Fate struct {
	// To is where it goes: its destination, unless it was translated.
	To netip.AddrPort
	// Rejected says that the sender is told at once that nobody is there (SCTP over IPv6 takes no
	// notice of it), Dropped that it hears nothing.
	Rejected, Dropped bool
	// Masqueraded says that it goes out with the node's address.
	Masqueraded bool
	// Steps are the rules that did something with the packet, in order.
	Steps []Step
}

// Step is a rule that did something: it marked, translated, jumped or decided.
type Step struct {
	Chain string
	Rule  rules.Rule
}

// Tracer sends packets through a state. It counts round robin as the kernel does:
// for each rule. It writes what clients are to be remembered with into the state.
type Tracer struct {
	State rules.State
	// Local lists the node's own addresses.
	Local []netip.Addr
	// Choose returns the number below mod that is chosen where there is a choice, for
	// those who want to see them all. Nil: as the kernel chooses.
	Choose func(mod uint32) uint32
	// Forget leaves the state as it is: no client is remembered.
	Forget bool

	counters map[string]uint32
	random   uint32
}

// Trace sends a packet through the hooks prerouting (or output, for one from the
// node itself) and postrouting.
func (t *Tracer) Trace(p Packet, fromNode bool) (Fate, error) {
	f := rules.FamilyOf(p.Dst.Addr())
	table := t.State.Tables[f]
	if table == nil || table.Dormant {
		return Fate{To: p.Dst}, nil
	}
	hook := rules.HookPrerouting
	if fromNode {
		hook = rules.HookOutput
	}
	w := &walk{tracer: t, family: f, table: table, packet: p, original: p.Dst, fate: Fate{To: p.Dst}}
	if err := w.hook(hook); err != nil || w.fate.Rejected || w.fate.Dropped {
		return w.fate, err
	}
	w.packet.Dst = w.fate.To
	w.stopped = false
	last := rules.HookPostrouting
	if w.local(w.packet.Dst.Addr()) {
		last = rules.HookInput
	}
	err := w.hook(last)
	return w.fate, err
}

// walk is one packet on its way.
type walk struct {
	tracer *Tracer
	family rules.Family
	table  *rules.Table
	packet Packet
	// original is where it went before translation.
	original netip.AddrPort
	mark     uint32
	fate     Fate

	stopped    bool // a verdict ended the hook
	translated bool // the destination was
}

func (w *walk) hook(h rules.HookNumber) error {
	for name, c := range w.table.Chains {
		if c.Hook != nil && c.Hook.Number == h {
			return w.chain(name)
		}
	}
	return nil
}

func (w *walk) chain(name string) error {
	c, ok := w.table.Chains[name]
	if !ok {
		return fmt.Errorf("no chain %s", name)
	}
	for i, r := range c.Rules {
		returned, err := w.rule(fmt.Sprintf("%s %s %d", w.family, name, i), name, r)
		if err != nil || w.stopped || returned {
			return err
		}
	}
	return nil
}

// rule carries out a rule's statements until one does not match; returned says
// that the chain ends here.
func (w *walk) rule(id, chain string, r rules.Rule) (returned bool, err error) {
	noted := false
	note := func() {
		if !noted {
			noted = true
			w.fate.Steps = append(w.fate.Steps, Step{chain, r})
		}
	}
	for _, s := range r {
		matched := true
		switch s.(type) {
		case rules.SetMark, rules.Jump, rules.Goto, rules.Return, rules.Reject, rules.Reset, rules.RejectProtocol,
			rules.Drop, rules.Masquerade, rules.Remember:
			note()
		}
		switch s := s.(type) {
		case rules.SetMark:
			w.mark |= s.Bits
		case rules.FlipMark:
			w.mark ^= s.Bits
		case rules.Dispatch:
			matched, err = w.dispatch(id, s, note)
			if matched && s.Map.Kind.Verdict() == "goto" {
				return true, err
			}
		case rules.DNAT:
			if matched, err = w.dnat(id, s); matched {
				note()
			}
		case rules.DNATRemembered:
			if matched, err = w.dnatRemembered(s); matched {
				note()
			}
		case rules.RestoreDest:
			w.packet.Dst = netip.AddrPortFrom(w.original.Addr(), w.packet.Dst.Port())
		case rules.Forget:
			if _, ok := w.table.Sets[s.Set][w.client()]; ok {
				note()
				w.forget(s)
			}
		case rules.Remember:
			w.remember(s)
		case rules.Jump:
			return false, w.chain(s.Chain)
		case rules.Goto:
			return true, w.chain(s.Chain)
		case rules.Return:
			return true, nil
		case rules.Reject, rules.Reset, rules.RejectProtocol:
			w.fate.Rejected, w.stopped = true, true
		case rules.Drop:
			w.fate.Dropped, w.stopped = true, true
		case rules.Masquerade:
			w.fate.Masqueraded, w.stopped = true, true
		default:
			matched, err = w.matches(id, s)
		}
		if err != nil || !matched || w.stopped {
			return false, err
		}
	}
	return false, nil
}

// matches is for the statements that do nothing but match.
func (w *walk) matches(id string, s rules.Statement) (bool, error) {
	switch s := s.(type) {
	case rules.MatchProtocol:
		return w.packet.Protocol == s.Protocol, nil
	case rules.MatchSource:
		return s.Prefix.Contains(w.packet.Src.Addr()) != s.Not, nil
	case rules.MatchInterface:
		return interfaceMatches(s.Name, w.packet.Interface) != s.Not, nil
	case rules.MatchLocalSource:
		return w.local(w.packet.Src.Addr()), nil
	case rules.MatchLocalDest:
		return w.local(w.packet.Dst.Addr()) && !w.packet.Dst.Addr().IsLoopback(), nil
	case rules.MatchSet:
		matched, err := w.matchSet(s)
		return matched != s.Not, err
	case rules.MatchDNAT:
		return w.translated, nil
	case rules.MatchMarkUnset:
		return w.mark&s.Bits == 0, nil
	}
	return false, fmt.Errorf("%s: no way to trace statement %T", id, s)
}

func (w *walk) matchSet(s rules.MatchSet) (bool, error) {
	set, ok := w.table.Sets[s.Set]
	if !ok {
		return false, fmt.Errorf("no set %s", s.Set.Name())
	}
	switch s.Set.Kind {
	case rules.Hairpin:
		_, ok = set[rules.Key{Addr: w.packet.Src.Addr()}]
		return ok && w.packet.Src.Addr() == w.packet.Dst.Addr(), nil
	case rules.Sources, rules.ServiceCIDRs:
		a := w.key("", s.Fields).Addr
		for k, v := range set {
			if k.Addr.Compare(a) <= 0 && a.Compare(v.To.Addr()) <= 0 {
				return true, nil
			}
		}
		return false, nil
	default:
		_, ok = set[w.key("", s.Fields)]
		return ok, nil
	}
}

func (w *walk) local(a netip.Addr) bool { return slices.Contains(w.tracer.Local, a) || a.IsLoopback() }

func interfaceMatches(pattern, name string) bool {
	if prefix, ok := strings.CutSuffix(pattern, "*"); ok {
		return strings.HasPrefix(name, prefix)
	}
	return pattern == name
}

func (w *walk) dispatch(id string, s rules.Dispatch, note func()) (bool, error) {
	set, ok := w.table.Sets[s.Map]
	if !ok {
		return false, fmt.Errorf("no map %s", s.Map.Name())
	}
	v, ok := set[w.key(id, s.Fields)]
	if !ok {
		return false, nil
	}
	note()
	return true, w.chain(v.Goto)
}

func (w *walk) dnat(id string, s rules.DNAT) (bool, error) {
	set, ok := w.table.Sets[s.Map]
	if !ok {
		return false, fmt.Errorf("no map %s", s.Map.Name())
	}
	v, ok := set[w.key(id, s.Fields)]
	if ok {
		w.fate.To, w.stopped, w.translated = v.To, true, true
	}
	return ok, nil
}

func (w *walk) client() rules.Key { return rules.Key{Addr: w.packet.Src.Addr()} }

// dnatRemembered translates to the endpoint that the client is remembered with.
func (w *walk) dnatRemembered(s rules.DNATRemembered) (bool, error) {
	for _, id := range []rules.SetID{s.Clients, s.Map} {
		if _, ok := w.table.Sets[id]; !ok {
			return false, fmt.Errorf("no map %s", id.Name())
		}
	}
	was, ok := w.table.Sets[s.Clients][w.client()]
	if !ok {
		return false, nil
	}
	v, ok := w.table.Sets[s.Map][s.Key(was.To)]
	if ok {
		w.fate.To, w.stopped, w.translated = v.To, true, true
	} else {
		w.packet.Dst = netip.AddrPortFrom(was.To.Addr(), w.packet.Dst.Port())
	}
	return ok, nil
}

func (w *walk) forget(s rules.Forget) {
	if w.tracer.Forget {
		return
	}
	delete(w.table.Sets[s.Set], w.client())
}

// remember does as the kernel: a client that is remembered already keeps its endpoint.
func (w *walk) remember(s rules.Remember) {
	clients := w.table.Sets[s.Set]
	if _, ok := clients[w.client()]; !ok && !w.tracer.Forget {
		clients[w.client()] = rules.Value{To: w.packet.Dst}
	}
}

// key builds the key that fields have for the packet.
func (w *walk) key(id string, fields rules.Fields) rules.Key {
	var k rules.Key
	for i, f := range fields.All() {
		switch f.Kind {
		case rules.SourceAddr:
			k.Addr = w.packet.Src.Addr()
		case rules.DestAddr:
			k.Addr = w.packet.Dst.Addr()
		case rules.L4Protocol:
			k.Protocol = w.packet.Protocol
		case rules.DestPort:
			k.Port = w.packet.Dst.Port()
		case rules.OriginalAddr:
			k.Addr = w.original.Addr()
		case rules.OriginalPort:
			k.Port = w.original.Port()
		default:
			n := f.Offset + w.choose(fmt.Sprintf("%s %d", id, i), f)
			if i == 0 {
				k.ID = n
			} else {
				k.Index = n
			}
		}
	}
	return k
}

// choose returns the number below f.Mod that a field chooses.
func (w *walk) choose(id string, f rules.Field) uint32 {
	if w.tracer.Choose != nil && f.Mod > 1 {
		return w.tracer.Choose(f.Mod) % f.Mod
	}
	switch f.Kind {
	case rules.RandomNumber: // as good as any other
		w.tracer.random = w.tracer.random*1664525 + 1013904223
		return w.tracer.random >> 8 % f.Mod
	case rules.ClientHash:
		h := fnv.New32a()
		fmt.Fprint(h, w.packet.Src)
		return h.Sum32() % f.Mod
	}
	return w.count(id, f.Mod)
}

// count returns the next number of a counter, from 0 on.
func (w *walk) count(id string, mod uint32) uint32 {
	if w.tracer.counters == nil {
		w.tracer.counters = map[string]uint32{}
	}
	n := w.tracer.counters[id] % mod
	w.tracer.counters[id] = (n + 1) % mod
	return n
}
