// SPDX-License-Identifier: Apache-2.0

package proxier

import (
	"errors"
	"fmt"
	"time"

	"github.com/nftproxy/nftproxy/rules"
)

// sync programs what has changed. An error means that nothing is lost and all of
// it must be tried again.
func (p *Proxier) sync() error {
	if !p.ready() {
		return nil
	}
	start := time.Now()
	was := p.takePending()
	full := !p.adopted
	changed, err := p.syncOnce(start)
	if err != nil || changed {
		p.config.Metrics.kubeProxy.took(full, start)
	}
	if err != nil {
		p.putBackPending(was)
		p.config.Metrics.kubeProxy.failed()
		return err
	}
	if changed {
		p.config.Metrics.kubeProxy.programmed(was.triggers)
	}
	p.config.Metrics.kubeProxy.upToDate()
	p.config.Metrics.holds(p.desired)
	return nil
}

// syncOnce programs what has changed, and says whether anything had.
func (p *Proxier) syncOnce(start time.Time) (changed bool, err error) {
	if err := p.syncNode(); err != nil {
		return false, err
	}
	if !p.adopted {
		return true, p.adopt(start)
	}
	builds := p.collect()
	if len(builds) == 0 {
		p.config.Health.Updated()
		return false, nil
	}
	if err := p.commit(builds, true); err != nil {
		p.putBack(builds)
		return false, err
	}
	p.config.Health.Updated()
	p.tellHealth(builds)
	p.tellLocalPorts(builds)
	p.config.Metrics.syncDuration.Observe(time.Since(start).Seconds())
	p.log.V(2).Info("Programmed", "servicePorts", len(builds), "took", time.Since(start))
	return true, nil
}

// ready says whether all lists are in, and what is waited for of the Node object.
func (p *Proxier) ready() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.haveServices && p.haveSlices && p.haveNodes && p.haveServiceCIDRs && p.awaitNode()
}

// collect builds the objects of what changed.
func (p *Proxier) collect() []rules.Owned {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.build(p.take())
}

// take takes the changed owners, and those whose time to be tried again has come.
// p.mu is held.
func (p *Proxier) take() []rules.Owner {
	now := time.Now()
	for o, f := range p.failing {
		if !now.Before(f.next) {
			p.store.mark(o)
		}
	}
	return p.store.take()
}

// build builds the objects of owners. p.mu is held.
func (p *Proxier) build(owners []rules.Owner) []rules.Owned {
	builds := make([]rules.Owned, 0, len(owners))
	for _, o := range owners {
		sp, endpoints, lost := p.store.input(o)
		p.reportConflicts(o, lost)
		p.countNoLocal(o, &sp, endpoints)
		builds = append(builds, rules.Owned{Owner: o, Objects: rules.Build(sp, endpoints, p.config.Rules, p.programmedNode)})
	}
	p.config.Metrics.conflicts.Set(float64(p.store.frontends.conflicts()))
	return builds
}

// putBack marks owners as changed again.
func (p *Proxier) putBack(builds []rules.Owned) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range builds {
		p.store.mark(builds[i].Owner)
	}
}

// adopt makes the kernel equal to all that was listed, starting from what it holds.
func (p *Proxier) adopt(start time.Time) error {
	have, err := p.config.Kernel.Read(p.config.Rules.Table)
	if err != nil {
		return fmt.Errorf("read the kernel's tables: %w", err)
	}
	builds, written, err := p.programAll(have)
	if err != nil {
		p.putBack(builds)
		return err
	}
	p.adopted = true
	p.cleanAllFlows(have)
	select {
	case <-p.synced: // not the first time
	default:
		close(p.synced)
	}
	p.config.Health.Updated()
	p.tellHealth(builds)
	p.tellLocalPorts(builds)
	p.config.Metrics.servicePorts.Set(float64(p.desired.Owners()))
	p.config.Metrics.syncDuration.Observe(time.Since(start).Seconds())
	p.log.Info("Programmed all services", "servicePorts", p.desired.Owners(), "changes", written, "took", time.Since(start))
	return nil
}

// programAll programs what was listed into a kernel that holds have. It returns the
// objects of the owners and the number of operations that it took.
func (p *Proxier) programAll(have rules.State) ([]rules.Owned, int, error) {
	p.mu.Lock()
	owners := p.take()
	p.mu.Unlock()
	if have.Tables == [2]*rules.Table{} && p.desired.Owners() == 0 {
		builds, written, err := p.load(owners)
		if err == nil {
			return builds, written, nil
		}
		p.log.Error(err, "The kernel refused a transaction; reading its state back", "servicePorts", len(builds))
		written, err = p.reconcile()
		return builds, written, err
	}
	p.mu.Lock()
	builds := p.build(owners)
	p.mu.Unlock()
	p.update(builds)
	written, err := p.repair(have)
	return builds, written, err
}

// update sets the objects of owners in desired, and returns the transaction and
// what they had before.
func (p *Proxier) update(builds []rules.Owned) (tx rules.Tx, before []rules.Owned) {
	before = make([]rules.Owned, len(builds))
	for i, b := range builds {
		before[i] = rules.Owned{Owner: b.Owner, Objects: p.desired.Objects(b.Owner)}
	}
	return p.desired.Update(builds), before
}

// commit programs owners. On a refusal it takes them back, repairs the kernel if
// it is not as it should be, sets the refused owners aside and goes on with the
// rest; first says that the whole was not tried before. An error means that
// nothing of it is programmed.
func (p *Proxier) commit(builds []rules.Owned, first bool) error {
	tx, before := p.update(builds)
	err := p.apply(tx)
	if err == nil {
		p.done(builds, before)
		return nil
	}
	p.desired.Update(before)
	p.log.Error(err, "The kernel refused a transaction; reading its state back", "servicePorts", len(builds))
	repaired, rerr := p.reconcile()
	if rerr != nil {
		return errors.Join(err, rerr)
	}
	if repaired > 0 && first {
		return p.commit(builds, false)
	}
	if len(builds) == 1 {
		p.setAside(builds[0].Owner, err)
		return nil
	}
	bad, rest := p.culprits(builds, err)
	if len(bad) == 0 { // the kernel did not say which: halve
		bad, rest = builds[:len(builds)/2], builds[len(builds)/2:]
	}
	return errors.Join(p.commit(bad, false), p.commit(rest, false))
}

// culprits splits owners into those whose objects an error names and the others.
func (p *Proxier) culprits(builds []rules.Owned, err error) (bad, rest []rules.Owned) {
	var refused interface{ RefusedObjects() []rules.Object }
	if !errors.As(err, &refused) {
		return nil, builds
	}
	for _, b := range builds {
		if ownsAny(b, p.desired.Objects(b.Owner), refused.RefusedObjects()) {
			bad = append(bad, b)
		} else {
			rest = append(rest, b)
		}
	}
	if len(rest) == 0 {
		return nil, builds
	}
	return bad, rest
}

func ownsAny(b rules.Owned, before rules.Objects, objects []rules.Object) bool {
	for _, o := range objects {
		if o.Family == b.Owner.Family && (b.Objects.Has(o) || before.Has(o)) {
			return true
		}
	}
	return false
}

// apply carries a transaction out and counts it.
func (p *Proxier) apply(tx rules.Tx) error {
	if tx.Len() == 0 {
		return nil
	}
	start := time.Now()
	err := p.config.Kernel.Apply(tx)
	p.config.Metrics.transaction(tx, time.Since(start), err)
	var committed interface{ Committed() bool }
	if errors.As(err, &committed) && committed.Committed() {
		p.log.Error(err, "Committed, but clients may stay with endpoints that are gone; trying again")
		p.unfinished = true
		return nil
	}
	return err
}

// reconcile reads the kernel and repairs it.
func (p *Proxier) reconcile() (int, error) {
	have, err := p.config.Kernel.Read(p.config.Rules.Table)
	if err != nil {
		return 0, fmt.Errorf("read the kernel's tables: %w", err)
	}
	return p.repair(have)
}

// repair makes a kernel that holds have equal to desired. It returns the number of
// operations that this took. Owners whose objects the kernel refuses are set aside.
func (p *Proxier) repair(have rules.State) (int, error) {
	tx := rules.Diff(have, p.desired.State())
	err := p.apply(tx)
	switch {
	case err == nil:
		return tx.Len(), nil
	case p.dropRefused(err):
		return p.reconcile()
	}
	return 0, err
}

// dropRefused takes the owners of refused objects out of desired; false if it
// found none.
func (p *Proxier) dropRefused(err error) bool {
	var refused interface{ RefusedObjects() []rules.Object }
	if !errors.As(err, &refused) {
		return false
	}
	owners := p.desired.OwnersOf(refused.RefusedObjects())
	for _, o := range owners {
		p.desired.Update([]rules.Owned{{Owner: o}})
		p.setAside(o, err)
	}
	return len(owners) > 0
}

// audit compares the kernel with desired and repairs it. After an error the next sync
// compares everything again.
func (p *Proxier) audit(why string) error {
	if !p.adopted {
		return nil
	}
	have, err := p.config.Kernel.Read(p.config.Rules.Table)
	repaired := 0
	if err == nil {
		repaired, err = p.repair(have)
	}
	if err != nil {
		p.adopted = false
		return fmt.Errorf("compare the kernel's tables with what they should hold: %w", err)
	}
	if repaired > 0 {
		p.config.Metrics.repairs.Add(float64(repaired))
		p.log.Info("Repaired the kernel's tables", "operations", repaired, "reason", why)
		p.cleanAllFlows(have)
	}
	return nil
}
