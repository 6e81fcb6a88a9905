// SPDX-License-Identifier: Apache-2.0

package proxier

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/time/rate"

	"github.com/nftproxy/nftproxy/rules"
)

// Kernel holds the tables. rules/kernel's does so in the running kernel.
type Kernel interface {
	// Read returns what the tables of a name hold.
	Read(table string) (rules.State, error)
	// Scan hands over, part by part, what things name of the tables of a name; everything, if there are none.
	Scan(table string, things []rules.Thing, to rules.Parts) error
	// Apply carries a transaction out. A *rules.Refusal says which objects the kernel refused.
	Apply(tx rules.Tx) error
}

// Config is what a Proxier needs to know. Its zero value, with a Kernel, works.
type Config struct {
	Kernel Kernel
	// Conntrack deletes flows to endpoints that are gone; nil deletes none.
	Conntrack Conntrack
	// Rules is what holds for all services.
	Rules rules.Config
	// NodeName is this node's name, by which local endpoints are known.
	NodeName string
	// NodeIPs are this node's primary addresses. Default: the Node object's; if it
	// has none, the first of Addresses.
	NodeIPs []netip.Addr
	// NodeWait is how long Run waits for the Node object, from the call of New on, before
	// it programs anything: for its podCIDRs, with DetectNodeCIDR, ten times as long. Default: not at all.
	NodeWait time.Duration
	// Addresses tells this node's own addresses; nil: they are not known.
	Addresses Addresses
	// Missing says which families of addresses the node does not have: nothing listens there. Rules are there all
	// the same: they harm nobody, and a family may be switched on later.
	Missing [2]bool
	// NodePorts says where NodePorts are served. Default: at NodeIPs.
	NodePorts NodePortAddresses
	// DetectNodeCIDR takes the Node object's podCIDRs, too, for addresses of pods.
	DetectNodeCIDR bool
	// Scheduler is that of Services without an annotation. Default: round robin.
	Scheduler rules.Scheduler
	// NoExternalIPs leaves Services' externalIPs out (KEP-5707).
	NoExternalIPs bool
	// Health is told what those need to know who ask for it. Nil: nobody does.
	Health Health
	// LocalPorts serves NodePorts on loopback addresses; nil: they are not served there.
	LocalPorts LocalPorts
	// Events takes warnings about Services. Nil: nobody does.
	Events Events
	// CommitRate is how many commits a second there are at most when changes keep
	// coming; after a rest, the first 100 wait for nothing. Each commit costs the kernel
	// as much time as there are chains, however little it changes. Default: 30.
	CommitRate rate.Limit
	// MinSyncPeriod is the shortest time between two commits. Default: none;
	// changes are only gathered while a commit is running.
	MinSyncPeriod time.Duration
	// AuditPeriod is the time between two comparisons with the kernel, which
	// repair what somebody else changed. Default: 15 minutes. Negative: never.
	AuditPeriod time.Duration
	// Changed tells that somebody else may have changed the tables, which starts
	// an audit. Nil: nobody tells.
	Changed <-chan struct{}
	// Touched returns what was changed since the last call. Nil: that is not known, and all is compared.
	Touched func() rules.Touched
	// Audited is called after each comparison of everything, which takes memory for a while. Nil: nobody wants to know.
	Audited func()
	// Logger takes messages. Default: none are written.
	Logger logr.Logger
	// Metrics counts what is done. Default: nothing is counted.
	Metrics *Metrics
}

// commitBurst is how many commits wait for nothing after a rest.
const commitBurst = 100

// Proxier is the sink of a source; Run programs the kernel.
type Proxier struct {
	config Config
	log    logr.Logger
	wake   chan struct{} // of capacity 1: something is to be done
	pace   *rate.Limiter // of commits

	mu    sync.Mutex // guards what follows; never held during a commit
	store *store
	// have says which lists are in. Nothing is programmed before all are.
	haveServices, haveSlices, haveNodes, haveServiceCIDRs bool

	node         nodeInfo
	nodeSeen     bool // node is what an object said
	serviceCIDRs map[string][]netip.Prefix

	// What follows belongs to Run's goroutine.
	desired        *rules.Desired
	programmedNode rules.Node
	adopted        bool          // the kernel was made equal to desired once, and has been kept so
	tried          bool          // or that was tried
	nodeMissing    string        // what it waits for, as was logged
	nodeWait       time.Duration // that it still waits; 0: it does not
	unequal        error         // why the kernel is known to hold something else than desired
	compared       bool          // this sync has read the kernel
	aside          int           // how many owners this sync has set aside
	retried        time.Time     // when owners that were set aside were tried last
	failing        map[rules.Owner]*failure
	conflicts      map[rules.Owner]map[conflict]struct{}
	lost           int // how many conflicts there are
	telling        telling
	leftOut        leftOut
	freed          map[netip.AddrPort]struct{} // of API servers: see FreeAPIServers
	healthPorts    map[objectName]healthPort
	localPorts     map[rules.Owner]localPort
	noLocal        map[rules.Owner]noLocal
	pending        pending
	began          time.Time
	synced         chan struct{} // closed after the first commit
	flows          flowQueues
	repairs        *repairs
	// wholes and refusals are the pace of comparisons of everything because of refused transactions, and of messages about those.
	wholes, refusals *rate.Limiter
	untold           int // refusals since the last message
}

// New returns a Proxier that has seen nothing yet.
func New(c Config) *Proxier {
	if c.AuditPeriod == 0 {
		c.AuditPeriod = 15 * time.Minute
	}
	if c.CommitRate == 0 {
		c.CommitRate = 30
	}
	if c.Metrics == nil {
		c.Metrics = NewMetrics()
	}
	if c.Health == nil {
		c.Health = noHealth{}
	}
	if c.Logger.GetSink() == nil {
		c.Logger = logr.Discard()
	}
	c.Rules = c.Rules.WithDefaults()
	store := newStore()
	for _, f := range rules.Families {
		store.frontends.localhost[f] = c.NodePorts.Localhost(f)
	}
	return &Proxier{
		config:  c,
		pace:    rate.NewLimiter(c.CommitRate, commitBurst),
		log:     c.Logger,
		wake:    make(chan struct{}, 1),
		store:   store,
		desired: rules.NewDesired(c.Rules, rules.Node{}),
		failing: map[rules.Owner]*failure{},

		serviceCIDRs: map[string][]netip.Prefix{},
		conflicts:    map[rules.Owner]map[conflict]struct{}{},
		freed:        map[netip.AddrPort]struct{}{},
		leftOut:      newLeftOut(),
		healthPorts:  map[objectName]healthPort{},
		localPorts:   map[rules.Owner]localPort{},
		noLocal:      map[rules.Owner]noLocal{},
		pending:      newPending(),
		began:        time.Now(),
		synced:       make(chan struct{}),
		flows:        newFlowQueues(),
		repairs:      newRepairs(),
		wholes:       rate.NewLimiter(rate.Every(wholePause), wholeBurst),
		refusals:     rate.NewLimiter(rate.Every(tellPause), tellBurst),
	}
}

// Synced is closed after the first commit: the kernel holds all that was listed.
func (p *Proxier) Synced() <-chan struct{} { return p.synced }

// Run programs what the source tells, until ctx ends. The rules stay then, so
// that traffic goes on while a successor starts. It is called once.
func (p *Proxier) Run(ctx context.Context) error {
	if p.config.Kernel == nil {
		return fmt.Errorf("run proxier: its Config has no Kernel")
	}
	flows := p.startFlowCleaners(ctx)
	defer flows.Wait()
	sync, audit, repair, period := newTask(), newTask(), newTask(), newTimer()
	defer sync.stop()
	defer audit.stop()
	defer repair.stop()
	defer period.stop()
	if p.config.AuditPeriod > 0 {
		period.set(p.config.AuditPeriod)
	}
	var addresses <-chan struct{}
	if p.config.Addresses != nil {
		addresses = p.config.Addresses.Changed()
	}
	for {
		do, why := sync, auditWhy{why: "an earlier comparison failed"}
		select {
		case <-ctx.Done():
			return nil
		case <-p.wake:
			if !sync.waiting && !sleep(ctx, p.pace.Reserve().Delay()) {
				return nil
			}
		case <-addresses:
		case <-sync.C():
			sync.waiting = false
		case <-audit.C():
			do, audit.waiting = audit, false
		case <-period.C():
			do, why.why = audit, "period"
			period.set(p.config.AuditPeriod)
		case <-p.config.Changed:
			p.touched(repair)
			continue
		case <-repair.C():
			what := p.repairs.take(time.Now())
			p.planRepair(repair)
			if len(what.Things) == 0 {
				continue
			}
			do, why = audit, auditWhy{"the tables were changed by another program", what.Things, what.By}
		}
		if do.waiting {
			continue // until it is time to try again: what has changed meanwhile is done then
		}
		if do == sync {
			p.runSync(sync, audit)
		} else {
			p.runAudit(sync, audit, why)
		}
		if !sleep(ctx, p.config.MinSyncPeriod) {
			return nil
		}
	}
}

// runSync programs what has changed.
func (p *Proxier) runSync(sync, audit *task) {
	if err := p.sync(); err != nil {
		p.config.Health.Queued() // also what came in during the last commit, whose end took it for programmed
		p.log.Error(err, "Could not program the kernel; trying again", "in", sync.failed(longestSyncWait))
	} else {
		sync.done()
		p.planRetry(sync)
	}
	if p.adopted && p.unequal != nil && !audit.waiting {
		p.log.Error(p.unequal, "The kernel does not hold all that it should; comparing it", "in", audit.failed(lastWait))
	}
}

// runAudit compares the kernel with what it should hold. Changes are programmed even while that fails.
func (p *Proxier) runAudit(sync, audit *task, why auditWhy) {
	was := p.unequal
	if err := p.audit(why); err != nil {
		if p.unequal != nil {
			p.config.Health.Queued()
		}
		p.log.Error(err, "Could not compare the kernel with what it should hold; trying again", "in", audit.failed(lastWait))
	} else {
		audit.done()
		if was != nil {
			p.poke() // a sync says that all is well
		}
	}
	if !sync.waiting {
		p.planRetry(sync)
	}
}

// planRetry sets when there is something to do that no event tells of.
func (p *Proxier) planRetry(sync *task) {
	if d, ok := p.nextRetry(); ok {
		sync.set(d)
	} else if p.nodeWait > 0 {
		sync.set(p.nodeWait)
	}
}

// signal tells Run of a change.
func (p *Proxier) signal() {
	p.config.Health.Queued()
	p.config.Metrics.kubeProxy.queued()
	p.poke()
}

// poke makes Run sync.
func (p *Proxier) poke() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}
