// SPDX-License-Identifier: Apache-2.0

package proxier

import (
	"errors"
	"fmt"

	"github.com/nftproxy/nftproxy/rules"
)

// compareTries is how often a comparison that others have overtaken is made again at once.
const compareTries = 3

// compare makes things in the kernel as they should be; everything, if there are none. It reads them part by part. It
// returns the transaction that this took.
func (p *programmer) compare(things []rules.Thing) (rules.Tx, error) {
	if rules.All(things) {
		if absent, err := p.absent(); err != nil {
			return rules.Tx{}, err
		} else if absent {
			return p.restore()
		}
	}
	for try := 1; ; try++ {
		c := p.desired.Compare(things)
		if err := p.kernel.Scan(p.config.Table, things, c); err != nil {
			return rules.Tx{}, fmt.Errorf("read the kernel's tables: %w", err)
		}
		if c.Whole() {
			things = nil
			continue
		}
		tx := c.Tx()
		err := p.apply(tx)
		switch {
		case err == nil && rules.All(things):
			p.unequal = nil
			return tx, nil
		case err == nil:
			return tx, nil
		case try < compareTries && suspicious(err):
			if try == compareTries-1 && !rules.All(things) {
				if !p.wholes.Allow() {
					return rules.Tx{}, p.overtaken(err)
				}
				things = nil
			}
		case suspicious(err) && !p.wholes.Allow():
			return rules.Tx{}, p.overtaken(err)
		default: // that is for repair, which does without what the kernel refuses
			return tx, p.reconcile()
		}
	}
}

// restore makes a kernel without our tables hold all that it should, as load does.
func (p *programmer) restore() (rules.Tx, error) {
	tx, err := fill(p.apply, rules.NewDesired(p.config, p.node), p.desired.Owners(), p.desired.Chunks(loadStep))
	if err != nil { // reconcile does without what the kernel refuses
		p.out.refusals = append(p.out.refusals, refusal{err: err, servicePorts: p.desired.Owners(), loading: true})
		return tx, p.reconcile()
	}
	p.unequal = nil
	return tx, nil
}

// mend repairs what a transaction was about that the kernel refused, and says whether it was not as it should be. Only where it
// was is everything compared, and not often: another program may make the kernel refuse one transaction after another. The error
// is errOvertaken if that is so.
func (p *programmer) mend(things []rules.Thing) (repaired bool, err error) {
	tx, err := p.compare(things)
	if err == nil && tx.Len() == 0 && !rules.All(things) && p.wholes.Allow() {
		tx, err = p.compare(nil)
	}
	if err != nil && p.unequal == nil {
		p.unequal = err
	}
	switch repaired = tx.Len() > 0; {
	case !repaired:
		p.mended = -1
	case p.mended >= 0:
		p.mended++
	}
	return repaired, err
}

// errOvertaken says that others have changed what was compared, again and again.
var errOvertaken = errors.New("others change the tables all the time")

// overtaken notes that the kernel holds something else than it should.
func (p *programmer) overtaken(err error) error {
	p.unequal = fmt.Errorf("%w: %w", errOvertaken, err)
	return p.unequal
}

// absent says whether the kernel has no table of ours.
func (p *programmer) absent() (bool, error) {
	var found tableFinder
	things := []rules.Thing{{Kind: rules.ThingTable, Family: rules.IPv4}, {Kind: rules.ThingTable, Family: rules.IPv6}}
	if err := p.kernel.Scan(p.config.Table, things, &found); err != nil {
		return false, fmt.Errorf("read the kernel's tables: %w", err)
	}
	return !bool(found), nil
}

// tableFinder notes whether there is any table.
type tableFinder bool

// Begin implements rules.Parts.
func (f *tableFinder) Begin() { *f = false }

// Part implements rules.Parts.
func (f *tableFinder) Part(p rules.Part) { *f = *f || p.Table != nil }

// reconcile reads the kernel and repairs it.
func (p *programmer) reconcile() error {
	have, err := p.kernel.Read(p.config.Table)
	if err != nil {
		p.unequal = err
		return fmt.Errorf("read the kernel's tables: %w", err)
	}
	return p.repair(have)
}

// repairTries is how often a repair goes on without what the kernel refuses.
const repairTries = 20

// repair makes a kernel that holds have equal to desired. Owners whose objects the kernel refuses are set aside; elements of
// nobody's that it refuses are left out, which is noted.
func (p *programmer) repair(have rules.State) (err error) {
	p.unequal = nil
	var left []rules.Object
	kept := map[rules.Owner]bool{}
	for tries := 0; ; tries++ {
		tx := rules.Diff(have, p.desired.State())
		tx.Omit(left)
		refused := p.apply(tx)
		if refused == nil {
			return nil
		}
		var more []rules.Object
		if tries == repairTries || general(refused) || !p.dropRefused(have, kept, refused, &more) {
			p.unequal = refused
			return refused
		}
		if left = append(left, more...); len(left) > 0 {
			p.unequal = refused
		}
		if untouched(refused) {
			continue
		}
		if have, err = p.kernel.Read(p.config.Table); err != nil {
			p.unequal = refused
			return errors.Join(refused, fmt.Errorf("read the kernel's tables: %w", err))
		}
	}
}

// dropRefused sets the owners of refused objects aside, and adds refused elements that no owner has to left;
// false if there was neither. In desired those owners keep what the kernel has of them, which works better than
// nothing, or nothing if that is refused, too.
func (p *programmer) dropRefused(have rules.State, kept map[rules.Owner]bool, err error, left *[]rules.Object) bool {
	owners, nobodys := p.desired.OwnersOf(rules.RefusalOf(err).Objects)
	for _, o := range nobodys {
		if o.Element != nil {
			*left = append(*left, o)
		}
	}
	for _, o := range owners {
		var keep rules.Objects
		if t := have.Tables[o.Family]; t != nil && !kept[o] {
			keep = t.ObjectsOf(o.ServicePortName, p.desired.Objects(o))
		}
		kept[o] = true
		p.desired.Update([]rules.Owned{{Owner: o, Objects: keep}})
		p.out.refusals = append(p.out.refusals, p.aside.refused(o, err))
	}
	return len(owners)+len(*left) > 0
}
