// SPDX-License-Identifier: Apache-2.0

package proxier

import (
	"errors"

	"github.com/nftproxy/nftproxy/rules"
)

// commit programs what holds for all services and owners that have changed, then owners that the kernel refused before.
// What is refused of the node holds up no services: a comparison tries it again. A service port that the kernel refuses
// is set aside and is no error. What the kernel refuses for reasons of its own, such as a lack of memory, is one: what
// is not programmed of the owners must be tried again.
func (p *programmer) commit(node rules.Node, good, again []rules.Owned) (outcome, error) {
	p.begin()
	if tx := p.setNode(node); p.out.node {
		if err := p.apply(tx); err != nil {
			p.unequal, p.out.nodeErr = err, err
		}
	}
	for _, part := range [][]rules.Owned{good, again} {
		if err := p.commitOwners(part); err != nil {
			return p.end(), err
		}
	}
	return p.end(), nil
}

// setNode changes what holds for all services in desired, and returns the transaction.
func (p *programmer) setNode(n rules.Node) (tx rules.Tx) {
	if n.Equal(&p.node) {
		return tx
	}
	p.out.node, p.out.nodeBefore = true, p.node
	p.node = n
	return p.desired.SetNode(n)
}

// commitOwners programs owners. On a refusal it takes them back, repairs the kernel if it may not be as it
// should be, sets the refused owners aside and goes on with the rest.
func (p *programmer) commitOwners(builds []rules.Owned) error {
	if len(builds) == 0 {
		return nil
	}
	tx, before := p.update(builds)
	err := p.apply(tx)
	if err == nil {
		p.aside.forget(builds)
		p.out.done(before, builds)
		return nil
	}
	p.desired.Update(before)
	p.out.refusals = append(p.out.refusals, refusal{err: err, servicePorts: len(builds)})
	if general(err) {
		if !untouched(err) {
			p.unequal = err
		}
		return err
	}
	if mended := p.mended; !untouched(err) || suspicious(err) && mended >= 0 {
		repaired, rerr := p.mend(tx.Things())
		switch {
		case errors.Is(rerr, errOvertaken), repaired && mended > 0 && suspicious(err):
			// Others spoil it again and again, which is none of the owners' faults: a comparison comes later.
			p.desired.Update(builds)
			p.out.done(before, builds)
			_ = p.overtaken(err)
			return nil
		case rerr != nil:
			return errors.Join(err, rerr)
		case mended == 0 && (repaired || suspicious(err)):
			// Where nothing was to be repaired, too: kernels do not find each element of a map while it grows.
			return p.commitOwners(builds)
		}
	}
	return p.commitOthers(builds, err)
}

// commitOthers sets those owners aside because of whom a transaction was refused, and programs the others.
func (p *programmer) commitOthers(builds []rules.Owned, err error) error {
	bad, rest := culprits(builds, p.desired.Objects, err)
	if len(builds) == 1 {
		bad, rest = builds, nil
	}
	if len(bad) == 0 { // the kernel did not say which: halve
		if err = p.commitOwners(builds[:len(builds)/2]); err != nil {
			return err
		}
		return p.commitOwners(builds[len(builds)/2:])
	}
	for i := range bad {
		p.out.refusals = append(p.out.refusals, p.aside.refused(bad[i].Owner, err))
	}
	return p.commitOwners(rest)
}

// adopt makes the kernel equal to all that was listed, starting from what it holds; absent says that it has no table of
// ours. build builds the objects of some of the owners. An error means that all must be tried again.
func (p *programmer) adopt(node rules.Node, absent bool, owners []rules.Owner, build func([]rules.Owner) []rules.Owned) (outcome, error) {
	p.begin()
	p.out.adopted = true
	p.setNode(node)
	err := p.programAll(absent, owners, build)
	p.adopted = err == nil
	return p.end(), err
}

// programAll programs owners.
func (p *programmer) programAll(absent bool, owners []rules.Owner, build func([]rules.Owner) []rules.Owned) (err error) {
	if absent && p.desired.Owners() == 0 {
		if p.out.written, err = p.load(owners, build); err == nil {
			return nil
		}
		p.out.refusals = append(p.out.refusals, refusal{err: err, servicePorts: len(owners), loading: true})
		return p.reconcile()
	}
	p.desired.Update(build(owners))
	p.out.written, err = p.compare(nil)
	return err
}

// audit compares things in the kernel with desired, everything if there are none, and repairs them. It is called once
// the kernel is adopted. An error means that the kernel may still hold something else than it should.
func (p *programmer) audit(things []rules.Thing) (_ outcome, err error) {
	p.begin()
	if p.out.written, err = p.compare(things); err == nil {
		err = p.unequal
	}
	return p.end(), err
}
