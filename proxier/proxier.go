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
	// Apply carries a transaction out. An error with a method RefusedObjects says
	// which objects the kernel refused.
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
	adopted        bool
	nodeMissing    string        // what it waits for, as was logged
	nodeWait       time.Duration // that it still waits; 0: it does not
	unfinished     bool          // what comes after a commit has failed
	failing        map[rules.Owner]*failure
	conflicts      map[rules.Owner][]conflict
	localPorts     map[rules.Owner]localPort
	noLocal        map[rules.Owner]noLocal
	pending        pending
	began          time.Time
	synced         chan struct{} // closed after the first commit
	flows          flowQueues
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
	return &Proxier{
		config:  c,
		pace:    rate.NewLimiter(c.CommitRate, commitBurst),
		log:     c.Logger,
		wake:    make(chan struct{}, 1),
		store:   newStore(),
		desired: rules.NewDesired(c.Rules, rules.Node{}),
		failing: map[rules.Owner]*failure{},

		serviceCIDRs: map[string][]netip.Prefix{},
		conflicts:    map[rules.Owner][]conflict{},
		localPorts:   map[rules.Owner]localPort{},
		noLocal:      map[rules.Owner]noLocal{},
		pending:      newPending(),
		began:        time.Now(),
		synced:       make(chan struct{}),
		flows:        newFlowQueues(),
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
	retry := newTimer()
	audit := newTimer()
	if p.config.AuditPeriod > 0 {
		audit.set(p.config.AuditPeriod)
	}
	defer retry.stop()
	defer audit.stop()
	var backoff backoff
	var addresses <-chan struct{}
	if p.config.Addresses != nil {
		addresses = p.config.Addresses.Changed()
	}
	for {
		do := p.sync
		select {
		case <-ctx.Done():
			return nil
		case <-p.wake:
			if !sleep(ctx, p.pace.Reserve().Delay()) {
				return nil
			}
		case <-addresses:
		case <-retry.C():
		case <-audit.C():
			do = func() error { return p.audit("period") }
			audit.set(p.config.AuditPeriod)
		case <-p.config.Changed:
			do = func() error { return p.audit("the tables were changed by another program") }
		}
		if err := do(); err != nil {
			p.config.Health.Queued() // also what came in during the last commit, whose end took it for programmed
			wait := backoff.next()
			p.log.Error(err, "Could not program the kernel; trying again", "in", wait)
			retry.set(wait)
			continue
		}
		if p.unfinished {
			p.unfinished, p.adopted = false, false // compare everything again
			retry.set(backoff.next())
			continue
		}
		backoff.reset()
		if d, ok := p.nextRetry(); ok {
			retry.set(d)
		} else if p.nodeWait > 0 {
			retry.set(p.nodeWait)
		}
		if !sleep(ctx, p.config.MinSyncPeriod) {
			return nil
		}
	}
}

// signal tells Run of a change.
func (p *Proxier) signal() {
	p.config.Health.Queued()
	p.config.Metrics.kubeProxy.queued()
	select {
	case p.wake <- struct{}{}:
	default:
	}
}
