// SPDX-License-Identifier: Apache-2.0

package proxier

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nftproxy/nftproxy/rules"
)

// compareTries is how often a comparison that others have overtaken is made again at once.
const compareTries = 3

// How often refused transactions lead to comparisons of everything: so many at once, then one each pause.
const (
	wholeBurst = 3
	wholePause = 10 * time.Second
)

// compare makes things in the kernel as they should be; everything, if there are none. It reads them part by part. It
// returns the transaction that this took.
func (p *Proxier) compare(things []rules.Thing) (rules.Tx, error) {
	for try := 1; ; try++ {
		c := p.desired.Compare(things)
		if err := p.config.Kernel.Scan(p.config.Rules.Table, things, c); err != nil {
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

// mend repairs what a transaction was about that the kernel refused, and says whether it was not as it should be. Only where it
// was is everything compared, and not often: another program may make the kernel refuse one transaction after another.
func (p *Proxier) mend(things []rules.Thing) (repaired bool, err error) {
	tx, err := p.compare(things)
	if err == nil && tx.Len() == 0 && !rules.All(things) && p.wholes.Allow() {
		tx, err = p.compare(nil)
	}
	switch {
	case errors.Is(err, errOvertaken):
		return false, nil // a comparison comes later, and other changes do not wait for it
	case err != nil && p.unequal == nil:
		p.unequal = err
	}
	return tx.Len() > 0, err
}

// errOvertaken says that others have changed what was compared, again and again.
var errOvertaken = errors.New("others change the tables all the time")

// overtaken notes that the kernel holds something else than it should.
func (p *Proxier) overtaken(err error) error {
	p.unequal = fmt.Errorf("%w: %w", errOvertaken, err)
	return p.unequal
}

// absent says whether the kernel has no table of ours.
func (p *Proxier) absent() (bool, error) {
	var found tableFinder
	things := []rules.Thing{{Kind: rules.ThingTable, Family: rules.IPv4}, {Kind: rules.ThingTable, Family: rules.IPv6}}
	if err := p.config.Kernel.Scan(p.config.Rules.Table, things, &found); err != nil {
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

// touched takes note of what others have changed, and plans its repair.
func (p *Proxier) touched(repair *task) {
	var what rules.Touched
	if p.config.Touched != nil {
		what = p.config.Touched()
	}
	p.repairs.touch(time.Now(), what)
	p.planRepair(repair)
}

// planRepair sets when the next repair is due.
func (p *Proxier) planRepair(repair *task) {
	if d, ok := p.repairs.wait(time.Now()); ok {
		repair.set(d)
	}
}

// auditWhy says why an audit is made, and of what.
type auditWhy struct {
	why    string
	things []rules.Thing // none: everything
	by     []rules.Process
}

// tellRepair tells of a repair in the log, unless it is one of many.
func (p *Proxier) tellRepair(why auditWhy, tx rules.Tx) {
	tell, untold := p.repairs.told(time.Now(), why.things)
	if !tell {
		p.log.V(2).Info("Repaired the kernel's tables", "operations", tx.Len(), "reason", why.why)
		return
	}
	fields := []any{"operations", tx.Len(), "reason", why.why, "repairs", describe(tx)}
	if why.by != nil {
		fields = append(fields, "by", processes(why.by))
	}
	if untold > 0 {
		fields = append(fields, "moreSinceLast", untold)
	}
	if wait, again := p.repairs.again(why.things); again {
		fields = append(fields, "again", "another program changes it again and again: repairs wait", "wait", wait)
	}
	p.log.Info("Repaired the kernel's tables", fields...)
}

// tellRefusal tells of a refused transaction in the log, unless it is one of many: another program may be the reason.
func (p *Proxier) tellRefusal(err error, servicePorts int) {
	const message = "The kernel refused a transaction"
	if !p.refusals.Allow() {
		p.untold++
		p.log.V(2).Info(message, "servicePorts", servicePorts, "reason", err.Error())
		return
	}
	p.log.Error(err, message, "servicePorts", servicePorts, "moreSinceLast", p.untold)
	p.untold = 0
}

// mostDescribed is how many operations a message names.
const mostDescribed = 3

// describe names what a transaction does.
func describe(tx rules.Tx) string {
	var out []string
	for i, op := range tx.Ops() {
		if i == mostDescribed {
			out = append(out, fmt.Sprintf("and %d more", tx.Len()-i))
			break
		}
		what := op.Object(tx.Name).String()
		if n := len(op.Elements); n > 1 {
			what = fmt.Sprintf("%s (and %d more)", what, n-1)
		}
		out = append(out, what)
	}
	return strings.Join(out, "; ")
}
