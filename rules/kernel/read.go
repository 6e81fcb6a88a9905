// SPDX-License-Identifier: Apache-2.0

//go:build linux

package kernel

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/nfnetlink"
	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/wire"
)

// chainTries is how often chains are listed at most.
const chainTries = nfnetlink.Tries

// errChanged says that the tables changed while they were read.
var errChanged = errors.New("the tables kept changing while they were read")

// complete is for listings whose reader finds out by itself what has changed. The kernel says that a listing was
// interrupted when anybody changed anything in the ruleset. What is listed of one table is complete if the change was in
// another, but for chains: see readChains. One that was cut short is not.
func complete(err error) error {
	if errors.Is(err, nfnetlink.ErrInterrupted) {
		return nil
	}
	return err
}

// again calls fn until nothing changes meanwhile, some times at most.
func again(fn func() error) error { return nfnetlink.Again(fn, errChanged) }

// Read reads the tables of a name, but for the clients in maps of session affinity, of which there may be very
// many. A reading during which others changed the tables is done again, a few times. What others change elsewhere
// does not matter, however often they do.
func (k *Kernel) Read(table string) (rules.State, error) { return k.read(table, false) }

// ReadListing reads as Read does, and also what listings show: the order of sets and
// chains, and clients that are remembered, and for how long.
func (k *Kernel) ReadListing(table string) (rules.State, error) { return k.read(table, true) }

func (k *Kernel) read(table string, listing bool) (s rules.State, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	r, err := k.newReader(table, listing)
	if err != nil {
		return s, err
	}
	defer r.close()
	err = again(func() error {
		s = rules.State{Name: table}
		return r.steady(func() error { return r.readTables(&s) })
	})
	if errors.Is(err, errChanged) {
		return rules.State{}, fmt.Errorf("read table %s: %w", table, err)
	}
	return s, err
}

// ask sends a request and calls fn for the attributes of each object in the answer.
func (k *conn) ask(request *nfnetlink.Builder, fn func(nfnetlink.Data)) error {
	return wire.Permission(k.sock.Ask(context.Background(), request, func(m nfnetlink.Message) { fn(m.Body()) }))
}

// others returns the ruleset's generation, which grows with each commit in the namespace, and how much of it is others'
// doing.
func (k *conn) others() (gen, others uint32, err error) {
	err = k.ask(wire.GetGeneration(), func(v nfnetlink.Data) {
		for typ, v := range v.Attributes() {
			if typ == unix.NFTA_GEN_ID {
				gen = v.U32()
			}
		}
	})
	return gen, gen - k.ours, err
}

// reader reads the tables of a name, once or several times, while the kernel's mutex is locked.
type reader struct {
	kernel *conn
	table  string
	// listing says that what listings show is kept.
	listing bool
	events  *events
}

func (k *conn) newReader(table string, listing bool) (*reader, error) {
	e, err := joinEvents(k.eventSock, table)
	if err != nil {
		return nil, err
	}
	return &reader{k, table, listing, e}, nil
}

func (r *reader) close() { r.events.close() }

// ask asks the kernel. nfnetlink.ErrInterrupted comes after the whole answer, ErrCutShort before its end.
func (r *reader) ask(request *nfnetlink.Builder, fn func(nfnetlink.Data)) error {
	err := r.kernel.ask(request, fn)
	r.events.take() // lest much that happens meanwhile does not fit
	return err
}

// steady calls fn, which reads. It returns errChanged if others changed the table meanwhile, as far as events tell.
func (r *reader) steady(fn func() error) error {
	r.events.take()
	r.events.changed = false
	before, others, err := r.kernel.others()
	if err != nil {
		return fmt.Errorf("read the ruleset's generation: %w", err)
	}
	r.kernel.seen = others
	failed := fn()
	after, others, err := r.kernel.others()
	switch {
	case err != nil:
		return fmt.Errorf("read the ruleset's generation: %w", err)
	case before != after && r.events.changedUpTo(after): // what failed may only have gone meanwhile
		return errChanged
	}
	r.kernel.seen = others
	return failed
}

func (r *reader) readTables(s *rules.State) error {
	for _, f := range rules.Families {
		t, err := r.readTable(f)
		if err != nil {
			return fmt.Errorf("read table %s %s: %w", f, s.Name, err)
		}
		s.Tables[f] = t
	}
	return nil
}

// readTable returns nil if there is no such table.
func (r *reader) readTable(f rules.Family) (*rules.Table, error) {
	t, err := r.readHead(f)
	if t == nil || err != nil {
		return nil, err
	}
	err = r.readRules(f, "", func(chain string, rule rules.Rule) {
		c := t.Chains[chain]
		c.Rules = append(c.Rules, rule)
		t.Chains[chain] = c
	})
	if complete(err) != nil {
		return nil, fmt.Errorf("rules: %w", err)
	}
	if err := r.readSets(f, t); err != nil {
		return nil, fmt.Errorf("sets: %w", err)
	}
	return t, nil
}

// readHead reads a table without rules and elements; nil if there is no such table.
func (r *reader) readHead(f rules.Family) (*rules.Table, error) {
	t, use, err := r.readTableOnly(f)
	if t == nil || err != nil {
		return nil, err
	}
	sets, err := r.readSetList(f, t)
	if complete(err) != nil {
		return nil, fmt.Errorf("sets: %w", err)
	}
	if err := r.readObjects(f, t); err != nil {
		return nil, fmt.Errorf("objects: %w", err)
	}
	if err := r.readChains(f, t, use-sets-len(t.Objects)); err != nil {
		return nil, fmt.Errorf("chains: %w", err)
	}
	return t, nil
}

// readTableOnly reads a table's own attributes, and how many chains, sets and others it has.
func (r *reader) readTableOnly(f rules.Family) (t *rules.Table, use int, err error) {
	err = r.ask(wire.GetTable(f, r.table), func(v nfnetlink.Data) { t, use = wire.ParseTable(v) })
	if errors.Is(err, unix.ENOENT) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, err
	}
	t.Tenure = r.kernel.seenBy(t.Tenure)
	if t.Tenure.Owner && r.listing {
		t.Tenure.By = ownerOf(t.Tenure)
	}
	return t, use, nil
}

// readObjects reads what a table has besides chains and sets.
func (r *reader) readObjects(f rules.Family, t *rules.Table) error {
	for _, list := range wire.GetObjects(f, r.table) {
		err := r.ask(list.Request, func(v nfnetlink.Data) {
			if of, o := list.Parse(v); of == r.table {
				t.Objects = append(t.Objects, o)
			}
		})
		if complete(err) != nil {
			return err
		}
	}
	return nil
}

// readChains reads chains, of which there should be n. The kernel lists those of all tables of the family,
// in parts, each of which begins after as many chains as were listed: a chain that another table loses
// or gets meanwhile makes it skip one of ours, or list one twice. Several listings together have all.
func (r *reader) readChains(f rules.Family, t *rules.Table, n int) error {
	for range chainTries {
		err := r.listChains(f, t)
		if !errors.Is(err, nfnetlink.ErrInterrupted) || len(t.Chains) == n {
			return complete(err)
		}
	}
	return errChanged
}

func (r *reader) listChains(f rules.Family, t *rules.Table) error {
	return r.ask(wire.GetChains(wire.NFProto(f)), func(v nfnetlink.Data) {
		of, c, odd := wire.ParseChain(v)
		if of != r.table {
			return
		}
		if _, again := t.Chains[c.Name]; !again {
			t.Odd = append(t.Odd, odd...)
			if r.listing {
				t.ChainOrder = append(t.ChainOrder, c.Name)
			}
		}
		t.Chains[c.Name] = c
	})
}

// readRules calls fn for each rule of a chain; of all chains of the table, chain by chain, if it names none.
func (r *reader) readRules(f rules.Family, chain string, fn func(chain string, rule rules.Rule)) error {
	return r.ask(wire.GetRules(f, r.table, chain), func(v nfnetlink.Data) {
		if of, in, rule := wire.ParseRule(f, v); of == r.table && (chain == "" || in == chain) {
			fn(in, rule)
		}
	})
}
