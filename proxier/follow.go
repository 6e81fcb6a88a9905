// SPDX-License-Identifier: Apache-2.0

package proxier

import (
	"time"

	"golang.org/x/time/rate"

	"github.com/nftproxy/nftproxy/printable"
	"github.com/nftproxy/nftproxy/proxier/cluster"
	"github.com/nftproxy/nftproxy/reason"
	"github.com/nftproxy/nftproxy/rules"
)

// follower tells everybody what has become of changes: the log, Events and metrics, load balancers, clients on loopback
// addresses, and connection tracking.
type follower struct {
	*teller
	conflicts   conflicts
	leftOut     leftOut
	noLocals    noLocals
	checks      healthChecks
	forwardings forwardings
	flows       flows
	history     *history
	written     readBack
	refusals    *rate.Limiter // of messages about refused transactions
	untold      int           // refusals since the last message
}

func newFollower(c *Config, cl *cluster.Cluster) *follower {
	t := &teller{c.Logger, c.Events, cl, c.Metrics}
	return &follower{
		teller:    t,
		conflicts: newConflicts(t),
		leftOut:   newLeftOut(t),
		noLocals:  noLocals{map[rules.Owner]noLocal{}, c.Metrics.kubeProxy},
		checks: healthChecks{teller: t, health: c.Health, told: map[cluster.ObjectName]healthPort{},
			nodePorts: c.Cluster.NodePorts, known: c.Cluster.Addresses != nil, missing: c.Missing},
		forwardings: forwardings{t, c.LocalPorts, map[rules.Owner]localPort{}},
		flows:       flows{t, c.Conntrack, c.Rules.AllNodePortIPs, newFlowQueues()},
		history:     newHistory(defaultRecords),
		refusals:    rate.NewLimiter(rate.Every(tellPause), tellBurst),
	}
}

// after tells what a programmer has done, whether it failed or not. Of tuned owners only the shares of their endpoints have changed.
func (f *follower) after(out *outcome, tuned map[rules.Owner]bool) {
	if out.node {
		f.node(out)
	}
	f.metrics.transactions.carriedOut(out.transactions)
	f.written.note(time.Now(), out.transactions)
	for i := range out.refusals {
		f.refused(&out.refusals[i])
	}
	f.history.setAside(out.now.failing, out.refusals)
	f.metrics.failing.Set(float64(len(out.now.failing)))
	if out.now.adopted {
		f.metrics.servicePorts.Set(float64(out.now.owners))
	}
	f.flows.queue(out.before, out.after, tuned)
}

// node tells that what holds for all services has changed.
func (f *follower) node(out *outcome) {
	now := &out.now.node
	f.checks.setAddresses(now.NodePortIPs)
	if out.adopted {
		return
	}
	f.log.V(1).Info("The node has changed", "zone", printable.Word(now.Zone), "nodePortIPs", now.NodePortIPs,
		"podCIDRs", now.PodCIDRs, "serviceCIDRs", now.ServiceCIDRs)
	if out.nodeErr != nil {
		f.metrics.kubeProxy.failed()
		return
	}
	f.flows.queueNodePorts(out.nodeBefore.NodePortIPs, now.NodePortIPs)
}

// built tells what came of owners' inputs besides their objects.
func (f *follower) built(b *builder, over cluster.Excess) {
	for _, o := range b.built {
		a := b.aspects[o]
		f.conflicts.set(o, a.lost)
		f.noLocals.set(o, a.noLocal)
		f.leftOut.report(o, a.leftOut, a.limit)
	}
	f.conflicts.tell()
	f.metrics.conflicts.Set(float64(f.conflicts.lost))
	f.metrics.leavesOut(over, f.leftOut.endpoints)
}

// ports listens where owners that were programmed want nftproxy itself to listen. Ports that are given up go first:
// another owner may have taken them, for the same or another use.
func (f *follower) ports(b *builder) {
	checks := f.checks.of(b.built)
	f.checks.giveUp(checks)
	for _, o := range b.built {
		f.forwardings.giveUp(o, b.aspects[o].forwarding)
	}
	f.checks.tell(checks)
	for _, o := range b.built {
		f.forwardings.set(o, b.aspects[o].forwarding)
	}
}

// refused tells of what the kernel refused.
func (f *follower) refused(r *refusal) {
	switch {
	case r.owner.Name != "":
		f.log.Error(r.err, reason.KernelRefused.Log(), "servicePort", r.owner.String(), "nextTry", r.wait)
		f.service(cluster.ServiceOf(r.owner), reason.KernelRefused.Event(), reason.KernelRefused.Text(r.owner, r.err))
	case r.loading:
		f.log.Error(r.err, "The kernel refused a transaction; reading its state back", "servicePorts", r.servicePorts)
	default:
		f.refusedTransaction(r)
	}
}

// refusedTransaction tells of a transaction in the log, unless it is one of many: another program may be the reason.
func (f *follower) refusedTransaction(r *refusal) {
	const message = "The kernel refused a transaction"
	if !f.refusals.Allow() {
		f.untold++
		f.log.V(2).Info(message, "servicePorts", r.servicePorts, "reason", r.err.Error())
		return
	}
	f.log.Error(r.err, message, "servicePorts", r.servicePorts, "moreSinceLast", f.untold)
	f.untold = 0
}

// audited tells of a comparison with the kernel.
func (f *follower) audited(why auditWhy, out *outcome, unequal error) {
	if out.setAside() > 0 || unequal != nil {
		f.metrics.kubeProxy.failed()
	}
	n := out.written.Len()
	if n == 0 {
		return
	}
	f.metrics.repairs.Add(float64(n))
	f.repaired(why, out.written)
	f.flows.queueRepair(out.written)
}

// auditWhy says why an audit is made, and of what.
type auditWhy struct {
	why     string
	things  []rules.Thing // none: everything
	by      []rules.Process
	repairs *repairs                                                      // knows how often things were repaired
	took    func(now time.Time, things []rules.Thing, took time.Duration) // takes CPU time; nil: it does not matter
}

// due says what is to be compared now, and why: what others have changed, or else what was written. No things: nothing is.
func (w auditWhy) due(r *repairs, back *readBack) auditWhy {
	now := time.Now()
	if what := r.take(now); len(what.Things) > 0 {
		w.why, w.things, w.by, w.took = "the tables were changed by another program", what.Things, what.By, r.done
		return w
	}
	w.why, w.things, w.took = "the kernel does not hold what was written", back.take(now), back.done
	return w
}

// repaired tells of a repair in the log, unless it is one of many.
func (f *follower) repaired(why auditWhy, tx rules.Tx) {
	tell, untold := why.repairs.told(time.Now(), why.things)
	if !tell {
		f.log.V(2).Info("Repaired the kernel's tables", "operations", tx.Len(), "reason", why.why)
		return
	}
	fields := []any{"operations", tx.Len(), "reason", why.why, "repairs", describe(tx)}
	if why.by != nil {
		fields = append(fields, "by", processes(why.by))
	}
	if untold > 0 {
		fields = append(fields, "moreSinceLast", untold)
	}
	if wait, again := why.repairs.again(why.things); again {
		fields = append(fields, "again", "another program changes it again and again: repairs wait", "wait", wait)
	}
	f.log.Info("Repaired the kernel's tables", fields...)
}

// programmed tells that something was programmed, and how long that took.
func (f *follower) programmed(took time.Duration) { f.metrics.syncDuration.Observe(took.Seconds()) }
