// SPDX-License-Identifier: Apache-2.0

//go:build linux

package cluster

import (
	"context"
	"sync"
	"time"

	"github.com/nftproxy/nftproxy/lock"
)

// surge has the new pod come before the old one goes, as the chart writes it with maxSurge: 1.
func surge() map[string]string {
	return map[string]string{
		"maxSurge: 0":         "maxSurge: 1",
		"maxUnavailable: 10%": "maxUnavailable: 0",
		"httpGet: {host: 127.0.0.1, path: /readyz, port: 10246}": "exec: {command: [/nftproxy, ready]}\n          timeoutSeconds: 5",
	}
}

// surgeDaemonSet: while the DaemonSet is updated with maxSurge the new pod of each node waits, ready, for the end of the old one.
// Nothing is lost, and no two write.
func (s *site) surgeDaemonSet() {
	w := s.watchTurns()
	s.under("an update of the DaemonSet with maxSurge", func() { s.installWith(surge()) })
	w.stop()
	for node, seen := range w.nodes {
		if len(seen.holders) != 2 || !seen.waited {
			s.t.Errorf("on %s these had the turn to write: %v, one waited: %v; want the old one and the new one, which waited", node, seen.holders, seen.waited)
		}
		s.t.Logf("on %s nobody was seen to have the turn for %v at most", node, seen.longest)
	}
	s.want(20 * time.Second)
}

// turns are who had the turn to write on each node, from watchTurns until stop.
type turns struct {
	cancel context.CancelFunc
	done   sync.WaitGroup
	nodes  map[string]*turnsOfNode
}

// turnsOfNode is what was seen on a node.
type turnsOfNode struct {
	holders []string // in turn, without repetitions
	waited  bool     // somebody did
	longest time.Duration
}

func (s *site) watchTurns() *turns {
	ctx, cancel := context.WithCancel(s.t.Context())
	w := &turns{cancel: cancel, nodes: map[string]*turnsOfNode{}}
	for _, n := range s.living() {
		seen := &turnsOfNode{}
		w.nodes[n.Name()] = seen
		w.done.Go(func() {
			last := time.Now()
			for ctx.Err() == nil {
				var now lock.Status
				err := n.NS.Do(func() (err error) { now, err = lock.Look("nftproxy"); return err })
				if err == nil && now.Holder != nil {
					seen.longest, last = max(seen.longest, time.Since(last)), time.Now()
					who := now.Holder.Describe()
					if len(seen.holders) == 0 || seen.holders[len(seen.holders)-1] != who {
						seen.holders = append(seen.holders, who)
					}
					seen.waited = seen.waited || len(now.Waiting) > 0
				}
				time.Sleep(20 * time.Millisecond)
			}
		})
	}
	return w
}

func (w *turns) stop() {
	w.cancel()
	w.done.Wait()
}
