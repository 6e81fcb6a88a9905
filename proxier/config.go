// SPDX-License-Identifier: Apache-2.0

package proxier

import (
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/time/rate"

	"github.com/nftproxy/nftproxy/proxier/cluster"
	"github.com/nftproxy/nftproxy/rules"
)

// Config is what a Proxier needs to know. Its zero value, with a Kernel, works.
type Config struct {
	// Cluster says how objects are read, and what is known of this node.
	Cluster cluster.Config
	// Rules is what holds for all services.
	Rules  rules.Config
	Kernel Kernel
	// Conntrack deletes flows to endpoints that are gone; nil deletes none.
	Conntrack Conntrack
	// Missing says which families of addresses the node does not have: nothing listens there. Rules are there all
	// the same: they harm nobody, and a family may be switched on later.
	Missing [2]bool
	// Health is told what those need to know who ask for it. Nil: nobody does.
	Health Health
	// LocalPorts serves NodePorts on loopback addresses; nil: they are not served there.
	LocalPorts LocalPorts
	// Events takes warnings about Services. Nil: nobody does.
	Events Events
	Pace   Pace
	// Foreign is how others' changes of the tables are noticed.
	Foreign Foreign
	// Logger takes messages. Default: none are written.
	Logger logr.Logger
	// Metrics counts what is done. Default: nothing is counted.
	Metrics *Metrics
}

// Pace says when things are done.
type Pace struct {
	// NodeWait is how long Run waits for the Node object, from the call of New on, before
	// it programs anything: for its podCIDRs, with DetectNodeCIDR, ten times as long. Default: not at all.
	NodeWait time.Duration
	// CommitRate is how many commits a second there are at most when changes keep
	// coming; after a rest, the first 100 wait for nothing. Each commit costs the kernel
	// as much time as there are chains, however little it changes. Default: 30.
	CommitRate rate.Limit
	// MinSyncPeriod is the shortest time between two commits. Default: none;
	// changes are only gathered while a commit is running.
	MinSyncPeriod time.Duration
	// CountPeriod is the time between two counts of the connections that are open to endpoints of Services whose scheduler
	// asks for that. It grows where counting would take more than a twentieth of a CPU. Default: a second.
	CountPeriod time.Duration
	// AuditPeriod is the time between two comparisons with the kernel, which
	// repair what somebody else changed. Default: 15 minutes. Negative: never.
	AuditPeriod time.Duration
}

// Foreign is how others' changes of the tables are noticed.
type Foreign struct {
	// Changed tells that somebody else may have changed the tables, which starts
	// an audit. Nil: nobody tells.
	Changed <-chan struct{}
	// Touched returns what was changed since the last call. Nil: that is not known, and all is compared.
	Touched func() rules.Touched
	// Turn is closed once no other process of this program writes the tables. Until then nothing is written, and what can be
	// prepared is: Prepared. Nil: there is no other.
	Turn <-chan struct{}
}

// withDefaults returns the Config with its defaults filled in.
func (c Config) withDefaults() Config {
	if c.Pace.AuditPeriod == 0 {
		c.Pace.AuditPeriod = 15 * time.Minute
	}
	if c.Pace.CountPeriod == 0 {
		c.Pace.CountPeriod = time.Second
	}
	if c.Pace.CommitRate == 0 {
		c.Pace.CommitRate = 30
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
	c.Cluster.NodeExpected = c.Cluster.NodeExpected || c.Pace.NodeWait > 0
	c.Rules = c.Rules.WithDefaults()
	return c
}
