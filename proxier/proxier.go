// SPDX-License-Identifier: Apache-2.0

package proxier

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/time/rate"

	"github.com/nftproxy/nftproxy/internal/cputime"
	"github.com/nftproxy/nftproxy/proxier/cluster"
	"github.com/nftproxy/nftproxy/rules"
)

// commitBurst is how many commits wait for nothing after a rest.
const commitBurst = 100

// longestSyncWait is how long to wait at most before all is tried again: the longest is for single service
// ports and comparisons, which hold up nothing else.
const longestSyncWait = 30 * time.Second

// Proxier keeps the kernel's rules equal to what the cluster asks for. It is the sink of a source; Run programs the kernel.
type Proxier struct {
	*cluster.Sink
	config   Config
	cluster  *cluster.Cluster
	listener *listener
	syncer   *syncer
	pace     *rate.Limiter // of commits
	repairs  *repairs
	tuner    tuner
	looks    chan func() // done between two things that are programmed
}

// New returns a Proxier that has seen nothing yet.
func New(c Config) *Proxier {
	c = c.withDefaults()
	p := &Proxier{
		config:   c,
		listener: &listener{c.Health, c.Metrics.kubeProxy, make(chan struct{}, 1)},
		pace:     rate.NewLimiter(c.Pace.CommitRate, commitBurst),
		repairs:  newRepairs(),
		looks:    make(chan func()),
	}
	p.cluster = cluster.New(c.Cluster, p.listener)
	p.Sink = cluster.NewSink(p.cluster)
	p.tuner = tuner{p.cluster, c.Conntrack, c.Pace.CountPeriod, c.Logger}
	backlog := p.cluster.Backlog
	c.Metrics.kubeProxy.backlog.Store(&backlog)
	p.syncer = &syncer{
		cluster: p.cluster,
		program: newProgrammer(c.Kernel, c.Rules),
		follow:  newFollower(&p.config, p.cluster),
		wait:    nodeWait{node: c.Cluster.NodeName, most: c.Pace.NodeWait, log: c.Logger, began: time.Now()},
		config:  &p.config,
		synced:  make(chan struct{}),
		standby: newStandby(),
	}
	return p
}

// Synced is closed after the first commit: the kernel holds all that was listed.
func (p *Proxier) Synced() <-chan struct{} { return p.syncer.synced }

// Prepared is closed when all is ready that can be while another process writes the tables: see Foreign.Turn.
func (p *Proxier) Prepared() <-chan struct{} { return p.syncer.standby.prepared }

// SetAPIServers is the Cluster's: it says which addresses no Service gets, as this node reaches its API server there.
func (p *Proxier) SetAPIServers(list []netip.AddrPort) { p.cluster.SetAPIServers(list) }

// FreeAPIServers deletes from the kernel what an earlier run has left where this node reaches its API server:
// without it the lists might never come in. It is called before the source runs, and not during Run, which does the
// same for what becomes known before the first commit.
func (p *Proxier) FreeAPIServers() error { return p.syncer.freeAPIServers() }

// UseFailover frees connections without an answer, of Services that want it. It is called before Run.
func (p *Proxier) UseFailover(f Failover) {
	p.syncer.rescuer = newRescuer(f, &p.config, p.syncer.follow.teller)
	p.syncer.ejected = p.syncer.rescuer.ejected
}

// UseEjected leaves those endpoints out that others have found not to answer. It is called before Run.
func (p *Proxier) UseEjected(of func(rules.Owner) []rules.Ejected) {
	p.syncer.ejected = func(o rules.Owner) rules.Ejection { return rules.Ejection{Endpoints: of(o), Share: 100} }
}

// Run programs what the source tells, until ctx ends. The rules stay then, so
// that traffic goes on while a successor starts. It is called once.
func (p *Proxier) Run(ctx context.Context) error {
	if p.config.Kernel == nil {
		return fmt.Errorf("run proxier: its Config has no Kernel")
	}
	defer p.beside(ctx)()
	sync, audit, repair, period := newTask(), newTask(), newTask(), timerOf(p.config.Pace.AuditPeriod)
	defer sync.stop()
	defer audit.stop()
	defer repair.stop()
	defer period.stop()
	turn, addresses := p.turn(), p.addresses()
	for {
		do, why := sync, auditWhy{why: "an earlier comparison failed", repairs: p.repairs}
		select {
		case <-ctx.Done():
			return nil
		case <-turn:
			turn, sync.waiting, p.syncer.waits = nil, false, false
		case <-p.listener.wake:
			p.syncer.follow.faults(p.cluster.Faults())
			if !sync.waiting && !sleep(ctx, p.pace.Reserve().Delay()) {
				return nil
			}
		case look := <-p.looks:
			look()
			continue
		case <-addresses:
		case <-sync.C():
			sync.waiting = false
		case <-audit.C():
			do, audit.waiting = audit, false
		case <-period.C():
			do, why.why = audit, "period"
			period.set(p.config.Pace.AuditPeriod)
		case <-p.config.Foreign.Changed:
			p.touched(repair)
			continue
		case <-repair.C():
			if do, why = audit, why.due(p.repairs, &p.syncer.follow.written); len(why.things) == 0 {
				do = repair
			}
		}
		switch {
		case do == repair, do.waiting: // until it is time to try again: what has changed meanwhile is done then
			p.planRepair(repair)
			continue
		case do == sync:
			p.runSync(sync, audit)
		default:
			p.runAudit(sync, audit, why)
		}
		p.planRepair(repair)
		if !sleep(ctx, p.config.Pace.MinSyncPeriod) {
			return nil
		}
	}
}

// addresses returns what gets a value when the node's addresses have changed; nil: they are not known.
func (p *Proxier) addresses() <-chan struct{} {
	if p.config.Cluster.Addresses == nil {
		return nil
	}
	return p.config.Cluster.Addresses.Changed()
}

// turn returns what is closed when this process may write the tables; nil: it may already.
func (p *Proxier) turn() <-chan struct{} {
	turn := p.config.Foreign.Turn
	if turn == nil {
		return nil
	}
	select {
	case <-turn:
		return nil
	default:
		p.syncer.waits = true
		return turn
	}
}

// beside starts what is done beside programming, until ctx ends; wait waits for its end.
func (p *Proxier) beside(ctx context.Context) (wait func()) {
	flows, tuned, rescued := p.syncer.follow.flows.start(ctx), p.tuner.start(ctx), p.syncer.rescuer.start(ctx)
	return func() {
		flows.Wait()
		tuned.Wait()
		rescued.Wait()
	}
}

// runSync programs what has changed.
func (p *Proxier) runSync(sync, audit *task) {
	program := p.syncer.program
	if err := p.syncer.sync(); err != nil {
		p.config.Health.Queued() // also what came in during the last commit, whose end took it for programmed
		p.config.Logger.Error(err, "Could not program the kernel; trying again", "in", sync.failed(longestSyncWait))
	} else {
		sync.done()
		p.planRetry(sync)
	}
	p.syncer.follow.history.stands(program.unequal)
	if program.adopted && program.unequal != nil && !audit.waiting {
		p.config.Logger.Error(program.unequal, "The kernel does not hold all that it should; comparing it", "in", audit.failed(lastWait))
	}
}

// runAudit compares the kernel with what it should hold. Changes are programmed even while that fails.
func (p *Proxier) runAudit(sync, audit *task, why auditWhy) {
	program := p.syncer.program
	was := program.unequal
	var err error
	busy := cputime.Of(func() { err = p.syncer.audit(why) })
	if why.took != nil {
		why.took(time.Now(), why.things, busy)
	}
	if err != nil {
		if program.unequal != nil {
			p.config.Health.Queued()
		}
		p.config.Logger.Error(err, "Could not compare the kernel with what it should hold; trying again", "in", audit.failed(lastWait))
	} else {
		audit.done()
		if was != nil {
			p.listener.poke() // a sync says that all is well
		}
	}
	p.syncer.follow.history.stands(program.unequal)
	if !sync.waiting {
		p.planRetry(sync)
	}
}

// planRetry sets when there is something to do that no event tells of.
func (p *Proxier) planRetry(sync *task) {
	if d, ok := p.syncer.program.aside.nextRetry(); ok {
		sync.set(d)
	} else if p.syncer.wait.left > 0 {
		sync.set(p.syncer.wait.left)
	}
}

// touched takes note of what others have changed, and plans its repair.
func (p *Proxier) touched(repair *task) {
	var what rules.Touched
	if p.config.Foreign.Touched != nil {
		what = p.config.Foreign.Touched()
	}
	if !p.syncer.program.adopted {
		if err := p.syncer.foreign(what); err != nil {
			p.config.Logger.Error(err, "The next process to take over has to compare everything")
		}
		return
	}
	p.repairs.touch(time.Now(), what)
	p.planRepair(repair)
}

// planRepair sets when the next things are due.
func (p *Proxier) planRepair(repair *task) {
	now := time.Now()
	d, ok := p.repairs.wait(now)
	if back, too := p.syncer.follow.written.wait(now); too && (!ok || back < d) {
		d, ok = back, true
	}
	if ok {
		repair.set(d)
	}
}
