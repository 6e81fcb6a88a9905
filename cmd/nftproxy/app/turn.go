// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"sync/atomic"
	"time"

	"k8s.io/klog/v2"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/serve"
	"github.com/nftproxy/nftproxy/lock"
	"github.com/nftproxy/nftproxy/printable"
	"github.com/nftproxy/nftproxy/proxier"
)

// turn is this process's right to write the tables, or its wait for that. It outlasts runs: those that follow each other in
// one process when a file has changed.
type turn struct {
	*lock.Lock
	ready atomic.Pointer[func() bool] // of the run that is on
}

// takeTurn asks for the right to write the tables of a name. socket is where commands may ask this process.
func takeTurn(log klog.Logger, table, version, socket string) (*turn, error) {
	t := &turn{}
	began := time.Now()
	var waited atomic.Bool
	var err error
	t.Lock, err = lock.New(lock.Config{Table: table, Version: version, Socket: socket,
		Ready: func() bool {
			ready := t.ready.Load()
			return ready != nil && (*ready)()
		},
		Waits: func(holder lock.Process, err error) {
			waited.Store(true)
			fields := []any{"table", table, "held by", holder.String(), "version", printable.Word(holder.Version), "since", holder.Since.Format(time.RFC3339)}
			if err != nil {
				fields = append(fields, "doubt", printable.Error(err))
			}
			log.Info("Another nftproxy writes the tables: waiting for its end", fields...)
		},
		Trouble: func(err error) {
			log.Error(err, "Cannot tell whether another nftproxy writes the tables; trying again", "table", table)
		}})
	if err != nil {
		return nil, err
	}
	if err := t.Start(); err != nil {
		_ = t.Close()
		return nil, err
	}
	go func() {
		if <-t.Held(); waited.Load() {
			log.Info("Taking over", "table", table, "waited", time.Since(began))
		}
	}()
	return t, nil
}

// tellOf says when a run counts as ready: once all is programmed, or while it waits once all is prepared.
func (t *turn) tellOf(p *proxier.Proxier, healthy func() bool) {
	ready := func() bool {
		done := p.Synced()
		if !t.Holds() {
			done = p.Prepared()
		}
		select {
		case <-done:
			return healthy()
		default:
			return false
		}
	}
	t.ready.Store(&ready)
}

// watch returns an error if the right to write is lost.
func (t *turn) watch(ctx context.Context) error {
	select {
	case err := <-t.Lost():
		return err
	case <-ctx.Done():
		return nil
	}
}

// serving is a run's servers. They wait for their turn: until then another process has their addresses.
type serving struct {
	start   func(takesOver bool) (*serve.Servers, error)
	turn    *turn
	servers *serve.Servers
}

// begin starts the servers if the turn has come.
func (s *serving) begin() (err error) {
	if s.turn.Holds() {
		s.servers, err = s.start(false)
	}
	return err
}

// run starts the servers when the turn comes, if they are not started yet, and returns when ctx is done.
func (s *serving) run(ctx context.Context) (err error) {
	if s.servers == nil {
		select {
		case <-s.turn.Held():
		case <-ctx.Done():
			return nil
		}
		if s.servers, err = s.start(true); err != nil {
			return err
		}
	}
	<-ctx.Done()
	return nil
}

func (s *serving) close() {
	if s.servers != nil {
		s.servers.Close()
	}
}
