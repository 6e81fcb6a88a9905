// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"errors"
	"fmt"
	"slices"
)

// What State.Apply refuses, as the kernel does.
var (
	ErrExist    = errors.New("it exists already")
	ErrNotExist = errors.New("it does not exist")
	ErrInUse    = errors.New("it is in use")
	// ErrFlags says that a table that stands does not get these flags.
	ErrFlags = errors.New("the table stands without them")
	// ErrHeld says that another process owns the table.
	ErrHeld = errors.New("another process owns the table")
)

func (s *State) apply(op Op) error {
	t := s.Tables[op.Family]
	if t != nil && t.Tenure.Owner && !t.Tenure.Ours {
		return ErrHeld
	}
	switch op.Kind {
	case ResetTable, AddTable:
		return s.applyTable(op)
	}
	if t == nil {
		return fmt.Errorf("table: %w", ErrNotExist)
	}
	switch op.Kind {
	case AddSet, DeleteSet:
		return t.applySet(op)
	case AddChain, ReplaceChain, DeleteChain:
		return t.applyChain(op)
	case DeleteObject:
		i := slices.Index(t.Objects, op.Odd)
		if i < 0 {
			return ErrNotExist
		}
		t.Objects = slices.Delete(t.Objects, i, i+1)
		return nil
	default:
		return t.applyElements(op)
	}
}

func (s *State) applyTable(op Op) (err error) {
	t := s.Tables[op.Family]
	if t == nil || op.Kind == ResetTable {
		t = NewTable()
		t.Tenure = Tenure{Persist: op.Owned}
	}
	if t.Tenure, err = t.Tenure.take(op.Owned); err != nil {
		return err
	}
	t.Dormant = false
	s.Tables[op.Family] = t
	return nil
}

func (t *Table) applySet(op Op) error {
	_, ok := t.Sets[op.Set]
	switch {
	case op.Foreign != "":
		for i, name := range t.Foreign {
			if name == op.Foreign {
				t.Foreign = append(t.Foreign[:i], t.Foreign[i+1:]...)
				return nil
			}
		}
		return ErrNotExist
	case op.Kind == AddSet && ok:
		return ErrExist
	case op.Kind == AddSet:
		t.Sets[op.Set] = map[Key]Value{}
		t.Counted = t.Counted || op.Counted
		if op.Set.Kind.Dynamic() {
			t.Affinity[op.Set] = AffinityMap{Set: op.Set, Size: op.Size}
		}
	case !ok:
		return ErrNotExist
	default:
		delete(t.Sets, op.Set)
		delete(t.Affinity, op.Set)
	}
	return nil
}

func (t *Table) applyChain(op Op) error {
	_, ok := t.Chains[op.Chain.Name]
	switch {
	case op.Kind == AddChain && ok:
		return ErrExist
	case op.Kind != AddChain && !ok:
		return ErrNotExist
	case op.Kind == DeleteChain:
		delete(t.Chains, op.Chain.Name)
	default:
		t.Chains[op.Chain.Name] = op.Chain
	}
	return nil
}

func (t *Table) applyElements(op Op) error {
	set, ok := t.Sets[op.Set]
	if !ok {
		return fmt.Errorf("set: %w", ErrNotExist)
	}
	if op.Kind == FillSet {
		clear(set)
	}
	for _, e := range op.Elements {
		_, ok := set[e.Key]
		switch {
		case op.Kind == AddElements && ok:
			return ErrExist
		case op.Kind != AddElements && op.Kind != FillSet && !ok:
			return ErrNotExist
		case op.Kind == DeleteElements:
			delete(set, e.Key)
			continue
		}
		if e.Goto != "" {
			if _, ok := t.Chains[e.Goto]; !ok {
				return fmt.Errorf("chain %s: %w", e.Goto, ErrNotExist)
			}
		}
		set[e.Key] = e.Value
	}
	return nil
}

// check verifies that what rules and elements refer to exists.
func (s *State) check() error {
	for f, t := range s.Tables {
		if t == nil {
			continue
		}
		missing := func(kind OpKind, chain string, set SetID) error {
			o := Object{Family: Family(f), Table: s.Name, Kind: kind, Chain: chain} //nolint:gosec // one of the two families
			if chain == "" {
				o.Set = set.Name()
			}
			return &OpError{Object: o, Err: ErrInUse}
		}
		for _, c := range t.Chains {
			for _, r := range c.Rules {
				if err := t.checkRule(r, missing); err != nil {
					return err
				}
			}
		}
		for id, set := range t.Sets {
			if id.Kind.Verdict() == "" {
				continue
			}
			for _, v := range set {
				if _, ok := t.Chains[v.Goto]; !ok {
					return missing(DeleteChain, v.Goto, SetID{})
				}
			}
		}
	}
	return nil
}

// checkRule verifies that what a rule refers to exists.
func (t *Table) checkRule(r Rule, missing func(kind OpKind, chain string, set SetID) error) error {
	for _, s := range r {
		to := refersTo(s)
		if _, ok := t.Chains[to.chain]; to.chain != "" && !ok {
			return missing(DeleteChain, to.chain, SetID{})
		}
		for _, id := range to.sets {
			if _, ok := t.Sets[id]; !ok {
				return missing(DeleteSet, "", id)
			}
		}
	}
	return nil
}
