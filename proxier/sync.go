// SPDX-License-Identifier: Apache-2.0

package proxier

import (
	"net/netip"
	"slices"
	"time"

	"github.com/nftproxy/nftproxy/proxier/cluster"
	"github.com/nftproxy/nftproxy/rules"
)

// syncer takes what has changed, has it programmed, and has everybody told. It belongs to one goroutine.
type syncer struct {
	cluster *cluster.Cluster
	program *programmer
	follow  *follower
	wait    nodeWait
	config  *Config
	synced  chan struct{} // closed after the first commit
	tried   bool          // it was tried to program what was listed
	// rescuer frees connections without an answer; ejected says which endpoints are ejected. Nil: nobody does.
	rescuer *rescuer
	ejected func(rules.Owner) rules.Ejection
	waits   bool // another process writes the tables
	standby standby
}

// sync programs what has changed. An error means that nothing is lost and all of
// it must be tried again.
func (s *syncer) sync() error {
	if s.waits {
		return s.prepare()
	}
	if !s.program.adopted {
		if err := s.freeAPIServers(); err != nil {
			return err
		}
	}
	if !s.ready() {
		return nil
	}
	if !s.tried {
		s.tried = true
		s.config.Health.Began()
	}
	start := time.Now()
	full := !s.program.adopted
	metrics := s.follow.metrics.kubeProxy
	var absent bool
	if full {
		var err error
		if absent, err = s.program.absent(); err != nil {
			metrics.took(full, start)
			metrics.failed()
			return err
		}
		countFirst(s.cluster, s.config.Conntrack)
	}
	ch, view := s.cluster.Take()
	defer view.Close()
	changed, failed, err := s.syncChanges(&ch, view, absent, start)
	if err != nil || changed {
		metrics.took(full, start)
	}
	if err != nil {
		view.Close()
		s.cluster.PutBack(ch)
		metrics.failed()
		return err
	}
	if changed {
		metrics.programmed(ch.Triggers)
	}
	metrics.upToDate()
	if failed {
		metrics.failed()
	}
	s.follow.metrics.holds(s.program.desired)
	return nil
}

// prepare makes desired what it should be, and finds out where the kernel differs, without writing. An error says that the
// kernel could not be read.
func (s *syncer) prepare() error {
	if !s.ready() {
		return nil
	}
	ch, view := s.cluster.Take()
	defer view.Close()
	b := s.builder(&ch, view)
	owners := make([]rules.Owner, len(ch.Owners))
	for i, c := range ch.Owners {
		owners[i] = c.Owner
	}
	b.expect(len(owners))
	s.standby.mayDiffer(s.program.prepare(ch.Node, b.build(owners)))
	view.Close()
	s.standby.built(b)
	s.follow.faults(ch.Faults)
	return s.compareAgain()
}

// compareAgain forgets what does not differ in the kernel, if that is much.
func (s *syncer) compareAgain() error {
	sb := &s.standby
	first := !sb.ready()
	if !first && !sb.worthComparing() {
		return nil
	}
	if err := sb.compare(s.program); err != nil {
		return err
	}
	if first {
		s.follow.log.Info("Ready to take over", "servicePorts", s.program.desired.Owners(), "differences", len(sb.differ))
		close(sb.prepared)
	}
	return nil
}

// foreign notes what others have changed before the kernel is adopted: the process that writes the tables, or anybody between its
// end and the first commit.
func (s *syncer) foreign(what rules.Touched) error {
	if len(what.Things) == 0 {
		what.Things = []rules.Thing{{Kind: rules.Everything}}
	}
	s.standby.mayDiffer(what.Things)
	if !s.waits || !s.standby.ready() {
		return nil
	}
	return s.compareAgain()
}

// ready says whether all lists are in, and what is waited for of the Node object.
func (s *syncer) ready() bool {
	missing := s.cluster.Missing()
	return missing != cluster.List && (s.program.adopted || s.wait.over(missing))
}

// syncChanges programs changes, and says whether there were any and whether some were set aside. A service port that the
// kernel refuses counts as a failure in the metrics, but leaves nftproxy healthy: all others are served, and
// a restart would help nobody. What the kernel refuses for reasons of its own, such as a lack of memory, is an
// error, after which all is tried again. absent says that the kernel has no table of ours, where none is adopted yet.
func (s *syncer) syncChanges(ch *cluster.Changes, view *cluster.View, absent bool, start time.Time) (changed, failed bool, err error) {
	b := s.builder(ch, view)
	good, again := s.program.aside.choose(ch.Each())
	owners := slices.Concat(good, again)
	b.expect(len(owners))
	var out outcome
	adopting := !s.program.adopted
	switch {
	case adopting && s.standby.ready():
		out, err = s.standby.takeOver(s.program, ch.Node, b.build(owners))
		s.standby.built(b)
		b = s.standby.all()
	case adopting:
		out, err = s.program.adopt(ch.Node, absent, owners, b.build)
	default:
		out, err = s.program.commit(ch.Node, b.build(good), b.build(again))
	}
	view.Close()
	s.follow.faults(ch.Faults)
	s.follow.built(b, ch.Excess)
	s.follow.after(&out, tuned(ch.Owners))
	s.follow.history.changed(start, ch, &out, err)
	if err != nil {
		return true, false, err
	}
	s.rescuer.committed(b, s.program.desired)
	if adopting {
		s.follow.flows.queueAll(out.written)
		s.closeSynced()
	}
	s.updated()
	if !adopting && len(owners) == 0 {
		return false, false, nil
	}
	s.follow.ports(b)
	s.follow.programmed(time.Since(start))
	if took := time.Since(start); adopting {
		s.follow.log.Info("Programmed all services", "servicePorts", s.program.desired.Owners(), "changes", out.written.Len(), "took", took)
	} else {
		s.follow.log.V(2).Info("Programmed", "servicePorts", len(owners), "took", took)
	}
	return true, out.setAside() > 0, nil
}

// tuned returns the owners of which nothing has changed but the shares of their endpoints; nil: none.
func tuned(list []cluster.Changed) (out map[rules.Owner]bool) {
	for i := range list {
		if list[i].Tuned {
			if out == nil {
				out = map[rules.Owner]bool{}
			}
			out[list[i].Owner] = true
		}
	}
	return out
}

// builder returns what builds the objects of owners that have changed.
func (s *syncer) builder(ch *cluster.Changes, view *cluster.View) *builder {
	return &builder{view: view, config: s.config.Rules, node: ch.Node, forward: s.config.LocalPorts != nil, missing: s.config.Missing,
		ejected: s.ejected, watch: s.rescuer != nil}
}

func (s *syncer) closeSynced() {
	select {
	case <-s.synced: // not the first time
	default:
		close(s.synced)
	}
}

// updated tells that all is programmed, if it is.
func (s *syncer) updated() {
	if s.program.unequal != nil {
		s.config.Health.Queued()
		return
	}
	s.config.Health.Updated()
}

// audit compares the kernel with what it should hold and repairs it.
func (s *syncer) audit(why auditWhy) error {
	if !s.program.adopted {
		return nil
	}
	start := time.Now()
	out, err := s.program.audit(why.things)
	s.follow.after(&out, nil)
	s.follow.history.repaired(start, why.why, rules.All(why.things), why.by, &out, err)
	s.follow.audited(why, &out, s.program.unequal)
	return err
}

// freeAPIServers deletes what an earlier run has left where this node reaches its API servers.
func (s *syncer) freeAPIServers() error {
	list := s.program.notFreed(s.cluster.APIServers())
	if len(list) == 0 {
		return nil
	}
	var own []netip.Addr
	if addresses := s.config.Cluster.Addresses; addresses != nil {
		own = addresses.Addrs()
	}
	out, err := s.program.free(list, own)
	if out.written.Len() > 0 {
		s.follow.log.Info("The kernel's rules of an earlier run lead connections to the API server astray: they are deleted", "apiServers", list)
	}
	s.follow.after(&out, nil)
	return err
}
