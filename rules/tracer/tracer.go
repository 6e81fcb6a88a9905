// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"cmp"
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

// Result is what becomes of a packet.
type Result struct {
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
func (t *Tracer) Trace(p Packet, fromNode bool) (Result, error) {
	f := rules.FamilyOf(p.Dst.Addr())
	table := t.State.Tables[f]
	if table == nil || table.Dormant {
		return Result{To: p.Dst}, nil
	}
	hook := rules.HookPrerouting
	if fromNode {
		hook = rules.HookOutput
	}
	w := &walk{tracer: t, family: f, table: table, packet: p, original: p.Dst, result: Result{To: p.Dst}}
	if err := w.hook(hook); err != nil || w.result.Rejected || w.result.Dropped {
		return w.result, err
	}
	w.packet.Dst = w.result.To
	w.stopped = false
	last := rules.HookPostrouting
	if w.local(w.packet.Dst.Addr()) {
		last = rules.HookInput
	}
	err := w.hook(last)
	return w.result, err
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
	result   Result

	stopped    bool // a verdict ended the hook
	translated bool // the destination was
}

func (w *walk) hook(h rules.HookNumber) error {
	var chains []rules.Chain
	for _, c := range w.table.Chains {
		if c.Hook != nil && c.Hook.Number == h {
			chains = append(chains, c)
		}
	}
	slices.SortFunc(chains, func(a, b rules.Chain) int { return cmp.Compare(a.Hook.Priority, b.Hook.Priority) })
	for _, c := range chains {
		if err := w.chain(c.Name); err != nil || w.stopped {
			return err
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
			w.result.Steps = append(w.result.Steps, Step{chain, r})
		}
	}
	for _, s := range r {
		goesOn, returned, err := w.statement(id, s, note)
		if err != nil || !goesOn || w.stopped {
			return returned, err
		}
	}
	return false, nil
}

// statement carries one out, and notes the rule if it does something. goesOn says that the rule does,
// returned that the chain ends here.
func (w *walk) statement(id string, s rules.Statement, note func()) (goesOn, returned bool, err error) {
	switch s := s.(type) {
	case rules.SetMark:
		note()
		w.mark |= s.Bits
	case rules.FlipMark:
		w.mark ^= s.Bits
	case rules.Dispatch:
		goesOn, err = w.dispatch(id, s, note)
		return goesOn && s.Map.Kind.Value() != rules.GoTo, goesOn && s.Map.Kind.Value() == rules.GoTo, err
	case rules.DNAT:
		goesOn, err = w.dnat(id, s, note)
		return goesOn, false, err
	case rules.DNATRemembered:
		goesOn, err = w.dnatRemembered(s, note)
		return goesOn, false, err
	case rules.RestoreDest:
		w.packet.Dst = netip.AddrPortFrom(w.original.Addr(), w.packet.Dst.Port())
	case rules.Forget:
		w.forget(s, note)
	case rules.Remember:
		note()
		w.remember(s)
	case rules.Note:
		note()
	case rules.Once:
		return w.once(id), false, nil
	case rules.Jump:
		note()
		return false, false, w.chain(s.Chain)
	case rules.Goto:
		note()
		return false, true, w.chain(s.Chain)
	case rules.Return:
		note()
		return false, true, nil
	case rules.Reject, rules.Reset, rules.RejectProtocol:
		note()
		w.result.Rejected, w.stopped = true, true
	case rules.Drop:
		note()
		w.result.Dropped, w.stopped = true, true
	case rules.Masquerade:
		note()
		w.result.Masqueraded, w.stopped = true, true
	default:
		goesOn, err = w.matches(id, s)
		return goesOn, false, err
	}
	return true, false, nil
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
	case rules.MatchUnassured, rules.MatchNew: // it is the first packet
		return true, nil
	case rules.MatchReply:
		return false, nil
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
	if s.Set.Kind.Interval() {
		a := w.key("", s.Fields).Addr
		for k, v := range set {
			if k.Addr.Compare(a) <= 0 && a.Compare(v.To.Addr()) <= 0 {
				return true, nil
			}
		}
		return false, nil
	}
	if slices.Contains(s.Set.Kind.Key(), rules.KeySameAddr) && w.packet.Src.Addr() != w.packet.Dst.Addr() {
		return false, nil
	}
	_, ok = set[w.key("", s.Fields)]
	return ok, nil
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

func (w *walk) dnat(id string, s rules.DNAT, note func()) (bool, error) {
	set, ok := w.table.Sets[s.Map]
	if !ok {
		return false, fmt.Errorf("no map %s", s.Map.Name())
	}
	v, ok := set[w.key(id, s.Fields)]
	if ok {
		note()
		w.result.To, w.stopped, w.translated = v.To, true, true
	}
	return ok, nil
}

func (w *walk) client() rules.Key { return rules.Key{Addr: w.packet.Src.Addr()} }

// dnatRemembered translates to the endpoint that the client is remembered with.
func (w *walk) dnatRemembered(s rules.DNATRemembered, note func()) (bool, error) {
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
		note()
		w.result.To, w.stopped, w.translated = v.To, true, true
	} else {
		w.packet.Dst = netip.AddrPortFrom(was.To.Addr(), w.packet.Dst.Port())
	}
	return ok, nil
}

func (w *walk) forget(s rules.Forget, note func()) {
	clients := w.table.Sets[s.Set]
	if _, ok := clients[w.client()]; !ok {
		return
	}
	note()
	if !w.tracer.Forget {
		delete(clients, w.client())
	}
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
		case rules.SourcePort:
			k.Port = w.packet.Src.Port()
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
	case rules.FlowHash, rules.AddrHash:
		h := fnv.New32a()
		if fmt.Fprint(h, w.packet.Src.Addr()); f.Kind == rules.FlowHash {
			fmt.Fprint(h, w.packet.Src.Port())
		}
		return h.Sum32() % f.Mod
	}
	return w.count(id, f.Mod)
}

// once says whether a rule is carried out that is for one packet only: by the first one, or where there is a choice.
func (w *walk) once(id string) bool {
	if w.tracer.Choose != nil {
		return w.tracer.Choose(2) == 1
	}
	if w.tracer.counters == nil {
		w.tracer.counters = map[string]uint32{}
	}
	w.tracer.counters[id]++
	return w.tracer.counters[id] == 1
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
