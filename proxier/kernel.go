// SPDX-License-Identifier: Apache-2.0

package proxier

import (
	"net/netip"
	"slices"
	"time"

	"golang.org/x/time/rate"

	"github.com/nftproxy/nftproxy/rules"
)

// Kernel holds the tables. rules/kernel's does so in the running kernel.
type Kernel interface {
	// Read returns what the tables of a name hold.
	Read(table string) (rules.State, error)
	// Scan reads the named things of the tables part by part; all of them, if none is named.
	Scan(table string, things []rules.Thing, to rules.Parts) error
	// Apply carries a transaction out. A *rules.Refusal says which objects the kernel refused.
	Apply(tx rules.Tx) error
}

// How often refused transactions lead to comparisons of everything: so many at once, then one each pause.
const (
	wholeBurst = 3
	wholePause = 10 * time.Second
)

// programmer makes the kernel hold what it should. Its operations are commit, adopt, audit, free and takeOver, each of which returns
// what became of it; prepare and differing write nothing. No two of them run at once.
type programmer struct {
	kernel  Kernel
	config  rules.Config
	desired *rules.Desired
	node    rules.Node // what desired has
	aside   aside
	adopted bool  // the kernel was made equal to desired once, and has been kept so
	unequal error // why the kernel is known to hold something else than desired
	// mended is how often this operation has repaired what others had changed, because of a refusal; below zero: once there was
	// nothing to repair.
	mended int
	wholes *rate.Limiter               // of comparisons of everything because of refused transactions
	freed  map[netip.AddrPort]struct{} // of API servers
	out    outcome                     // of this operation
}

func newProgrammer(k Kernel, c rules.Config) *programmer {
	return &programmer{kernel: k, config: c, desired: rules.NewDesired(c, rules.Node{}), aside: newAside(),
		wholes: rate.NewLimiter(rate.Every(wholePause), wholeBurst), freed: map[netip.AddrPort]struct{}{}}
}

// outcome is what an operation of a programmer has done.
type outcome struct {
	// adopted says that all was programmed, not only what has changed.
	adopted bool
	// node is whether what holds for all services has changed, nodeBefore what it was, and nodeErr why the kernel
	// did not take the change.
	node       bool
	nodeBefore rules.Node
	nodeErr    error
	// before and after are the objects of owners that were changed, each at the same place in both.
	before, after []rules.Owned
	// refusals are what the kernel refused, in order.
	refusals     []refusal
	transactions []transaction
	// written is the transaction that made the kernel equal, after a comparison or a load.
	written rules.Tx
	now     standing
}

// standing is how things stand after an operation.
type standing struct {
	node    rules.Node
	adopted bool // the kernel is programmed, and has owners
	owners  int
	failing map[rules.Owner]time.Time // those set aside, and when each is tried again; nil: none
}

// setAside says how many owners were set aside.
func (o *outcome) setAside() (n int) {
	for i := range o.refusals {
		if o.refusals[i].owner.Name != "" {
			n++
		}
	}
	return n
}

// done notes owners that were programmed.
func (o *outcome) done(before, after []rules.Owned) {
	if o.before == nil { // the common case, without copies
		o.before, o.after = slices.Clip(before), slices.Clip(after)
		return
	}
	o.before, o.after = append(o.before, before...), append(o.after, after...)
}

// transaction is one that was sent to the kernel.
type transaction struct {
	elements int
	took     time.Duration
	err      error
	things   []rules.Thing // what it has changed
}

// begin begins an operation.
func (p *programmer) begin() { p.mended = 0 }

// end ends an operation, and returns what it has done. The programmer keeps nothing of that: it may be large.
func (p *programmer) end() outcome {
	out := p.out
	p.out = outcome{}
	out.now = standing{p.node, p.adopted, p.desired.Owners(), p.aside.waiting()}
	return out
}

// apply carries a transaction out.
func (p *programmer) apply(tx rules.Tx) error {
	if tx.Len() == 0 {
		return nil
	}
	start := time.Now()
	err := p.kernel.Apply(tx)
	t := transaction{elements: tx.Elements(), took: time.Since(start), err: err}
	if err == nil {
		t.things = thingsOf(tx)
	}
	p.out.transactions = append(p.out.transactions, t)
	return err
}

// update sets the objects of owners in desired, and returns the transaction and
// what they had before.
func (p *programmer) update(builds []rules.Owned) (tx rules.Tx, before []rules.Owned) {
	before = make([]rules.Owned, len(builds))
	for i, b := range builds {
		before[i] = rules.Owned{Owner: b.Owner, Objects: p.desired.Objects(b.Owner)}
	}
	return p.desired.Update(builds), before
}

// thingsOf returns what a transaction is about: Everything, if that is too much to name.
func thingsOf(tx rules.Tx) []rules.Thing {
	things := tx.Things()
	if len(things) == 0 && tx.Len() > 0 {
		things = []rules.Thing{{Kind: rules.Everything}}
	}
	return things
}
