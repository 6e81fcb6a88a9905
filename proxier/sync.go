// SPDX-License-Identifier: Apache-2.0

package proxier

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/rules"
)

// sync programs what has changed. An error means that nothing is lost and all of
// it must be tried again.
func (p *Proxier) sync() error {
	if !p.adopted {
		if err := p.FreeAPIServers(); err != nil {
			return err
		}
	}
	if !p.ready() {
		return nil
	}
	if !p.tried {
		p.tried = true
		p.config.Health.Began()
	}
	start := time.Now()
	was := p.takePending()
	p.compared, p.aside = false, 0
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
	if p.aside > 0 {
		p.config.Metrics.kubeProxy.failed()
	}
	p.config.Metrics.holds(p.desired)
	return nil
}

// syncOnce programs what has changed, and says whether anything had. A service port that the kernel
// refuses counts as a failure in the metrics, but leaves nftproxy healthy: all others are served, and
// a restart would help nobody. What the kernel refuses for reasons of its own, such as a lack of memory, is an
// error, after which all is tried again.
func (p *Proxier) syncOnce(start time.Time) (changed bool, err error) {
	p.syncNode()
	if !p.adopted {
		return true, p.adopt(start)
	}
	good, again := p.collect()
	builds := slices.Concat(good, again)
	if len(builds) == 0 {
		p.updated()
		return false, nil
	}
	for _, part := range [][]rules.Owned{good, again} {
		if err := p.commit(part); err != nil {
			p.putBack(builds)
			return false, err
		}
	}
	p.updated()
	p.tellPorts(builds)
	p.config.Metrics.syncDuration.Observe(time.Since(start).Seconds())
	p.log.V(2).Info("Programmed", "servicePorts", len(builds), "took", time.Since(start))
	return true, nil
}

// updated tells that all is programmed, if it is.
func (p *Proxier) updated() {
	if p.unequal != nil {
		p.config.Health.Queued()
		return
	}
	p.config.Health.Updated()
}

// ready says whether all lists are in, and what is waited for of the Node object.
func (p *Proxier) ready() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.haveServices && p.haveSlices && p.haveNodes && p.haveServiceCIDRs && p.awaitNode()
}

// collect builds the objects of what changed, and of what is to be tried again.
func (p *Proxier) collect() (good, again []rules.Owned) {
	p.mu.Lock()
	defer p.mu.Unlock()
	changed, retries := p.take()
	return p.build(changed), p.build(retries)
}

// take takes the changed owners. Those that the kernel refused before come apart, when their time has come or
// they have changed, and a few at a time: they must hold up nobody else. p.mu is held.
func (p *Proxier) take() (good, again []rules.Owner) {
	now := time.Now()
	going := map[rules.Owner]bool{}
	for _, o := range p.store.take() {
		f := p.failing[o]
		if f == nil || p.store.servicePort(o).Port == 0 { // what goes is not refused
			good = append(good, o)
			if f != nil {
				going[o] = true
			}
		} else if now.Before(f.next) {
			f.next = now
		}
	}
	if now.Before(p.retried.Add(retryPause)) {
		return good, nil
	}
	for o, f := range p.failing {
		if !now.Before(f.next) && !going[o] {
			again = append(again, o)
		}
	}
	slices.SortFunc(again, func(a, b rules.Owner) int {
		return cmp.Or(p.failing[a].next.Compare(p.failing[b].next), compareOwners(a, b))
	})
	again = again[:min(len(again), retryBatch)]
	if len(again) > 0 {
		p.retried = now
	}
	return good, again
}

// build builds the objects of owners. p.mu is held.
func (p *Proxier) build(owners []rules.Owner) []rules.Owned {
	builds := make([]rules.Owned, 0, len(owners))
	for _, o := range owners {
		sp, endpoints, lost := p.store.input(o)
		p.reportConflicts(o, lost)
		p.countNoLocal(o, &sp, endpoints)
		objects := rules.Build(sp, endpoints, p.config.Rules, p.programmedNode)
		p.reportLeftOut(o, objects.LeftOut, sp.EndpointLimit)
		builds = append(builds, rules.Owned{Owner: o, Objects: objects})
	}
	p.tellConflicts()
	p.config.Metrics.conflicts.Set(float64(p.lost))
	p.config.Metrics.leavesOut(p.store.over, p.leftOut.endpoints)
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
	absent, err := p.absent()
	if err != nil {
		return err
	}
	builds, tx, err := p.programAll(absent)
	if err != nil {
		p.putBack(builds)
		return err
	}
	p.adopted = true
	p.cleanAllFlows(tx)
	select {
	case <-p.synced: // not the first time
	default:
		close(p.synced)
	}
	p.updated()
	p.tellPorts(builds)
	p.config.Metrics.servicePorts.Set(float64(p.desired.Owners()))
	p.config.Metrics.syncDuration.Observe(time.Since(start).Seconds())
	p.log.Info("Programmed all services", "servicePorts", p.desired.Owners(), "changes", tx.Len(), "took", time.Since(start))
	return nil
}

// programAll programs what was listed; absent says that the kernel has no table of ours. It returns the
// objects of the owners and the transaction that it took.
func (p *Proxier) programAll(absent bool) (builds []rules.Owned, tx rules.Tx, err error) {
	p.mu.Lock()
	good, again := p.take()
	p.mu.Unlock()
	owners := slices.Concat(good, again)
	if absent && p.desired.Owners() == 0 {
		if builds, tx, err = p.load(owners); err == nil {
			return builds, tx, nil
		}
		p.log.Error(err, "The kernel refused a transaction; reading its state back", "servicePorts", len(builds))
		err = p.reconcile()
		return builds, tx, err
	}
	p.mu.Lock()
	builds = p.build(owners)
	p.mu.Unlock()
	p.update(builds)
	tx, err = p.compare(nil)
	return builds, tx, err
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

// commit programs owners. On a refusal it takes them back, repairs the kernel if it may not be as it
// should be, sets the refused owners aside and goes on with the rest. An error means that what is not
// programmed of it must be tried again.
func (p *Proxier) commit(builds []rules.Owned) error {
	if len(builds) == 0 {
		return nil
	}
	tx, before := p.update(builds)
	err := p.apply(tx)
	if err == nil {
		p.done(builds, before)
		return nil
	}
	p.desired.Update(before)
	p.tellRefusal(err, len(builds))
	if general(err) {
		if !rules.RefusalOf(err).Untouched {
			p.unequal = err
		}
		return err
	}
	if first := !p.compared; !rules.RefusalOf(err).Untouched || first && suspicious(err) {
		p.compared = true
		repaired, rerr := p.mend(tx.Things())
		if rerr != nil {
			return errors.Join(err, rerr)
		}
		if repaired && first {
			return p.commit(builds)
		}
	}
	return p.commitOthers(builds, err)
}

// commitOthers sets those owners aside because of whom a transaction was refused, and programs the others.
func (p *Proxier) commitOthers(builds []rules.Owned, err error) error {
	bad, rest := p.culprits(builds, err)
	if len(builds) == 1 {
		bad, rest = builds, nil
	}
	if len(bad) == 0 { // the kernel did not say which: halve
		if err = p.commit(builds[:len(builds)/2]); err != nil {
			return err
		}
		return p.commit(builds[len(builds)/2:])
	}
	for i := range bad {
		p.setAside(bad[i].Owner, err)
	}
	return p.commit(rest)
}

// general says that an error is about the kernel or our rights, whatever it was that we wanted.
func general(err error) bool {
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return false
	}
	switch errno {
	case unix.ENOMEM, unix.ENOBUFS, unix.EPERM, unix.EACCES, unix.EAGAIN:
		return true
	}
	return false
}

// suspicious says that an error may come from what somebody else changed.
func suspicious(err error) bool {
	var errno syscall.Errno
	return !errors.As(err, &errno) || errno == unix.ENOENT || errno == unix.EEXIST || errno == unix.EBUSY
}

// culprits splits owners into those whose objects an error names and the others.
func (p *Proxier) culprits(builds []rules.Owned, err error) (bad, rest []rules.Owned) {
	objects := rules.NewObjectSet(rules.RefusalOf(err).Objects)
	for _, b := range builds {
		if f := b.Owner.Family; objects.Any(f, b.Objects) || objects.Any(f, p.desired.Objects(b.Owner)) {
			bad = append(bad, b)
		} else {
			rest = append(rest, b)
		}
	}
	return bad, rest
}

// apply carries a transaction out and counts it.
func (p *Proxier) apply(tx rules.Tx) error {
	if tx.Len() == 0 {
		return nil
	}
	start := time.Now()
	err := p.config.Kernel.Apply(tx)
	p.config.Metrics.transaction(tx, time.Since(start), err)
	return err
}

// reconcile reads the kernel and repairs it.
func (p *Proxier) reconcile() error {
	have, err := p.config.Kernel.Read(p.config.Rules.Table)
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
func (p *Proxier) repair(have rules.State) (err error) {
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
		if rules.RefusalOf(refused).Untouched {
			continue
		}
		if have, err = p.config.Kernel.Read(p.config.Rules.Table); err != nil {
			p.unequal = refused
			return errors.Join(refused, fmt.Errorf("read the kernel's tables: %w", err))
		}
	}
}

// dropRefused sets the owners of refused objects aside, and adds refused elements that no owner has to left;
// false if there was neither. In desired those owners keep what the kernel has of them, which works better than
// nothing, or nothing if that is refused, too.
func (p *Proxier) dropRefused(have rules.State, kept map[rules.Owner]bool, err error, left *[]rules.Object) bool {
	owners, nobodys := p.desired.OwnersOf(rules.RefusalOf(err).Objects)
	for _, o := range nobodys {
		if o.Element != nil {
			*left = append(*left, o)
		}
	}
	for _, o := range owners {
		var keep rules.Objects
		if t := have.Tables[o.Family]; t != nil && !kept[o] {
			keep = t.Held(o.ServicePortName, p.desired.Objects(o))
		}
		kept[o] = true
		p.desired.Update([]rules.Owned{{Owner: o, Objects: keep}})
		p.setAside(o, err)
	}
	return len(owners)+len(*left) > 0
}

// audit compares the kernel with desired and repairs it.
func (p *Proxier) audit(why auditWhy) error {
	if !p.adopted {
		return nil
	}
	p.aside = 0
	tx, err := p.compare(why.things)
	if p.aside > 0 || p.unequal != nil {
		p.config.Metrics.kubeProxy.failed()
	}
	if n := tx.Len(); n > 0 {
		p.config.Metrics.repairs.Add(float64(n))
		p.tellRepair(why, tx)
		p.cleanAllFlows(tx)
	}
	if rules.All(why.things) && p.config.Audited != nil {
		p.config.Audited()
	}
	if err == nil {
		err = p.unequal
	}
	return err
}
