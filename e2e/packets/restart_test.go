// SPDX-License-Identifier: Apache-2.0

//go:build linux

package packets

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/traffic"
)

// A restart, clean or not, is not to be noticed: no connection fails, established
// ones go on, round robin goes on where it was, and nothing is written.
func TestRestart(t *testing.T) {
	t.Parallel()
	w := newWorld(t, config{})
	a, b, c := w.Local[0], w.RemotePods[0], w.RemotePods[1]
	three := w.service("three").to(ready(a, b, c))
	other := w.service("other").to(ready(b))
	w.apply(t, three, other, w.service("none"))
	l := startLoad(t, w, three, a, b, c)
	restarts := []struct {
		name   string
		end    func()
		writes bool // something, at its start
	}{
		{"SIGTERM", func() { w.stop(t) }, false},
		{"SIGKILL", func() { w.nftproxy.Kill() }, false},
		{"a change of another service meanwhile", func() {
			w.stop(t)
			w.put(t, other.to(ready(a, c)).objects()...)
		}, true},
	}
	for _, r := range restarts {
		l.goOn(t)
		r.end()
		l.goOn(t) // while no nftproxy runs
		w.start(t)
		l.goOn(t)
		if log := w.nftproxy.Log(); strings.Contains(log, "changes=0 ") == r.writes {
			t.Errorf("after %s: did the start write anything? want %v:\n%s", r.name, r.writes, log)
		}
	}
	w.wantEverywhere(t, other, spread(a, c))
	l.end()
	checkAll(t, l.cycles)
	for _, err := range l.failed() {
		t.Error(err)
	}
}

// load is traffic that does not stop: new connections in turn, and requests on
// established ones.
type load struct {
	cycles      []*cycle
	established []*established
	steps       []atomic.Int64 // made by each of the former and the latter
	stop        chan struct{}
	running     sync.WaitGroup
}

// established is a connection that one backend has.
type established struct {
	*traffic.Conn
	name     string
	protocol traffic.Protocol
	to       netip.AddrPort
	backend  netip.AddrPort
	err      error // the first
}

// askSoon asks once and waits for the answer for a short time only.
func (e *established) askSoon(t *testing.T) traffic.Result { return e.askFor(t, dropTimeout) }

// askFor asks once and waits so long for the answer.
func (e *established) askFor(t *testing.T, wait time.Duration) traffic.Result {
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	defer cancel()
	return e.Ask(ctx)
}

// ask asks once; the answer must be the same backend's as before.
func (e *established) ask(t *testing.T) {
	r := e.Ask(t.Context())
	switch {
	case e.err != nil:
	case r.Outcome != traffic.Answered:
		e.err = fmt.Errorf("%s: %s", e.name, r)
	case e.backend.IsValid() && r.Backend != e.backend:
		e.err = fmt.Errorf("%s: answered by %s, before by %s", e.name, r.Backend, e.backend)
	default:
		e.backend = r.Backend
	}
}

// loadPace keeps the load from taking all of the CPU.
const loadPace = 2 * time.Millisecond

func startLoad(t *testing.T, w *world, s *svc, backends ...netns.Host) *load {
	t.Helper()
	l := &load{stop: make(chan struct{})}
	clients := w.clients()
	for i, c := range cyclesOf(s, netns.Host{}, backends...) {
		c.client.NS = clients[i%len(clients)].NS
		l.cycles = append(l.cycles, c)
	}
	for _, from := range clients {
		for _, f := range netns.Families() {
			l.established = append(l.established, establish(t, from, traffic.TCP, s.at(f, servicePort)))
		}
	}
	l.steps = make([]atomic.Int64, len(l.cycles)+len(l.established))
	for i, c := range l.cycles {
		l.keepDoing(&l.steps[i], func() { c.turn(t, 1) })
	}
	for i, e := range l.established {
		l.keepDoing(&l.steps[len(l.cycles)+i], func() { e.ask(t) })
	}
	t.Cleanup(l.end)
	return l
}

// establish opens a connection, or socket, to ask several times.
func establish(t *testing.T, from netns.Host, p traffic.Protocol, to netip.AddrPort) *established {
	t.Helper()
	conn, err := traffic.Client{NS: from.NS}.Open(t.Context(), p, to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &established{Conn: conn, name: fmt.Sprintf("from %s to %s %s", from.Name(), p, to), protocol: p, to: to}
}

func (l *load) keepDoing(steps *atomic.Int64, do func()) {
	l.running.Go(func() {
		pace := time.NewTicker(loadPace)
		defer pace.Stop()
		for {
			do()
			steps.Add(1)
			select {
			case <-l.stop:
				return
			case <-pace.C:
			}
		}
	})
}

// goOn waits until every part of the load has made some more steps.
func (l *load) goOn(t *testing.T) {
	t.Helper()
	const more = 10
	var goals []int64
	for i := range l.steps {
		goals = append(goals, l.steps[i].Load()+more)
	}
	eventually(t, "more traffic", func() error {
		for i := range l.steps {
			if n := l.steps[i].Load(); n < goals[i] {
				return fmt.Errorf("part %d has made %d of %d steps", i, n, goals[i])
			}
		}
		return nil
	})
}

// end ends the load, once.
func (l *load) end() {
	select {
	case <-l.stop:
	default:
		close(l.stop)
	}
	l.running.Wait()
}

// failed returns what went wrong with the established connections.
func (l *load) failed() []error {
	var errs []error
	for _, e := range l.established {
		if e.err != nil {
			errs = append(errs, e.err)
		}
	}
	return errs
}

// SIGTERM leaves the rules; the command cleanup removes them.
func TestCleanup(t *testing.T) {
	t.Parallel()
	w := newWorld(t, config{})
	a, b := w.Local[0], w.RemotePods[0]
	two, none := w.service("two").to(ready(a, b)), w.service("none")
	w.apply(t, two, none)
	w.stop(t)
	w.wantEverywhere(t, two, spread(a, b))
	w.wantEverywhere(t, none, refused())
	if out, want := w.run(t, "cleanup"), "removed 2 of the tables"; !strings.Contains(out, want) {
		t.Errorf("cleanup wrote %q, want %q", out, want)
	}
	for f, table := range w.state(t).Tables {
		if table != nil {
			t.Errorf("table %d is still there", f)
		}
	}
	w.wantEverywhere(t, two, dropped())
	if out, want := w.run(t, "cleanup"), "removed 0 of the tables"; !strings.Contains(out, want) {
		t.Errorf("a second cleanup wrote %q, want %q", out, want)
	}
	w.start(t)
	w.wantEverywhere(t, two, spread(a, b))
}
