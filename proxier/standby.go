// SPDX-License-Identifier: Apache-2.0

package proxier

import (
	"maps"
	"slices"
	"time"

	"github.com/nftproxy/nftproxy/proxier/cluster"
	"github.com/nftproxy/nftproxy/rules"
)

// While another process writes the tables, those things are remembered that may differ in the kernel from what it should
// hold. If there are more than standbyThings, they are compared, which forgets those that do not differ, but not more often
// than each standbyPause; if there are more than mostStandbyThings, everything is compared.
const (
	standbyThings     = 256
	mostStandbyThings = 4096
	standbyPause      = time.Second
)

// standby is what a syncer has prepared while another process writes the tables: desired is what it should be, and this is
// what must be known besides to take over at once.
type standby struct {
	prepared chan struct{} // closed when it is for the first time
	// differ are the things that may differ in the kernel. everything says that all may.
	differ     map[rules.Thing]struct{}
	everything bool
	compared   time.Time // the last time
	// owners are those of desired, with what comes of them besides their objects.
	owners  map[rules.Owner]struct{}
	aspects map[rules.Owner]aspects
}

func newStandby() standby {
	return standby{prepared: make(chan struct{}), differ: map[rules.Thing]struct{}{}, everything: true,
		owners: map[rules.Owner]struct{}{}, aspects: map[rules.Owner]aspects{}}
}

// ready says whether this process could take over at once.
func (s *standby) ready() bool {
	select {
	case <-s.prepared:
		return true
	default:
		return false
	}
}

// mayDiffer notes things that the kernel may hold otherwise.
func (s *standby) mayDiffer(things []rules.Thing) {
	for _, t := range things {
		s.differ[t] = struct{}{}
		s.everything = s.everything || t.Kind == rules.Everything
	}
	if s.everything = s.everything || len(s.differ) > mostStandbyThings; s.everything {
		clear(s.differ)
	}
}

// things returns what may differ in the kernel, and the tables; nil: everything may.
func (s *standby) things() []rules.Thing {
	if s.everything {
		return nil
	}
	out := slices.Collect(maps.Keys(s.differ))
	for _, f := range rules.Families {
		out = append(out, rules.Thing{Kind: rules.ThingTable, Family: f})
	}
	return out
}

// built notes owners that were built.
func (s *standby) built(b *builder) {
	for _, o := range b.built {
		s.owners[o] = struct{}{}
		delete(s.aspects, o)
	}
	maps.Copy(s.aspects, b.aspects)
}

// all returns a builder that has built all owners.
func (s *standby) all() *builder {
	return &builder{built: slices.SortedFunc(maps.Keys(s.owners), cluster.CompareOwners), aspects: s.aspects}
}

// prepare makes desired what it should be, and returns what that has changed.
func (p *programmer) prepare(node rules.Node, builds []rules.Owned) []rules.Thing {
	things := thingsOf(p.setNode(node))
	things = append(things, thingsOf(p.desired.Update(builds))...)
	p.end()
	return things
}

// thingsOf returns what a transaction is about: Everything, if that is too much to name.
func thingsOf(tx rules.Tx) []rules.Thing {
	things := tx.Things()
	if len(things) == 0 && tx.Len() > 0 {
		things = []rules.Thing{{Kind: rules.Everything}}
	}
	return things
}

// differing returns which of some things differ in the kernel from what they should be; of everything, if there are none.
func (p *programmer) differing(things []rules.Thing) ([]rules.Thing, error) {
	c := p.desired.Compare(things)
	if err := p.kernel.Scan(p.config.Table, things, c); err != nil {
		return nil, err
	}
	if c.Whole() {
		return []rules.Thing{{Kind: rules.Everything}}, nil
	}
	return thingsOf(c.Tx()), nil
}

// takeOver makes the kernel equal to what was prepared and what has changed since, where it may differ: in some things,
// or in everything if there are none. An error means that all must be tried again, with everything.
func (p *programmer) takeOver(node rules.Node, builds []rules.Owned, things []rules.Thing) (_ outcome, err error) {
	p.begin()
	if more := p.prepare(node, builds); !rules.All(things) {
		things = append(things, more...)
	}
	p.out.adopted, p.out.node = true, true
	p.out.written, err = p.compare(things)
	p.adopted = err == nil
	return p.end(), err
}
