// SPDX-License-Identifier: Apache-2.0

package proxier

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/go-logr/logr"

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

// Proxier is the sink of a source; Run programs the kernel.
type Proxier struct {
	config Config
	log    logr.Logger
	wake   chan struct{} // of capacity 1: something is to be done

	mu    sync.Mutex // guards what follows; never held during a commit
	store *store
	// have says which lists are in. Nothing is programmed before both are.
	haveServices, haveSlices bool

	// What follows belongs to Run's goroutine.
	desired *rules.Desired
	adopted bool
	failing map[rules.Owner]*failure
	synced  chan struct{} // closed after the first commit
	flows   *flowQueue
}

// New returns a Proxier that has seen nothing yet.
func New(c Config) *Proxier {
	if c.AuditPeriod == 0 {
		c.AuditPeriod = 15 * time.Minute
	}
	if c.Metrics == nil {
		c.Metrics = NewMetrics()
	}
	if c.Logger.GetSink() == nil {
		c.Logger = logr.Discard()
	}
	c.Rules = c.Rules.WithDefaults()
	return &Proxier{
		config:  c,
		log:     c.Logger,
		wake:    make(chan struct{}, 1),
		store:   newStore(),
		desired: rules.NewDesired(c.Rules),
		failing: map[rules.Owner]*failure{},
		synced:  make(chan struct{}),
		flows:   newFlowQueue(),
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
	flows := p.startFlowCleaner(ctx)
	defer flows.Wait()
	retry := newTimer()
	audit := newTimer()
	if p.config.AuditPeriod > 0 {
		audit.set(p.config.AuditPeriod)
	}
	defer retry.stop()
	defer audit.stop()
	var backoff backoff
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-p.wake:
		case <-retry.C():
		case <-audit.C():
			p.audit("period")
			audit.set(p.config.AuditPeriod)
			continue
		case <-p.config.Changed:
			p.audit("the tables were changed by another program")
			continue
		}
		if err := p.sync(); err != nil {
			wait := backoff.next()
			p.log.Error(err, "Could not program the kernel; trying again", "in", wait)
			retry.set(wait)
			continue
		}
		backoff.reset()
		if d, ok := p.nextRetry(); ok {
			retry.set(d)
		}
		if !sleep(ctx, p.config.MinSyncPeriod) {
			return nil
		}
	}
}

// signal wakes Run.
func (p *Proxier) signal() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}
