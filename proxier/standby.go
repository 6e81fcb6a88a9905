// SPDX-License-Identifier: Apache-2.0

package proxier

import (
	"maps"
	"slices"
	"time"

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

// worthComparing says whether so much may differ that it is compared again.
func (s *standby) worthComparing() bool {
	return (s.everything || len(s.differ) > standbyThings) && time.Since(s.compared) >= standbyPause
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
	return &builder{built: slices.SortedFunc(maps.Keys(s.owners), rules.Owner.Compare), aspects: s.aspects}
}

// compare finds out which of the things that may differ in the kernel do, without writing.
func (s *standby) compare(p *programmer) error {
	s.compared = time.Now()
	things, err := p.differing(s.things())
	if err != nil {
		return err
	}
	clear(s.differ)
	s.everything = false
	s.mayDiffer(things)
	return nil
}

// takeOver makes the kernel equal to what was prepared and what has changed since, where it may differ. An error means that
// all must be tried again.
func (s *standby) takeOver(p *programmer, node rules.Node, builds []rules.Owned) (outcome, error) {
	s.mayDiffer(p.prepare(node, builds))
	out, err := p.takeOver(s.things())
	s.everything = err != nil
	return out, err
}
