// SPDX-License-Identifier: Apache-2.0

//go:build linux

package packets

import (
	"fmt"
	"slices"
	"testing"

	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/traffic"
)

// A client that goes on sending from one socket is served by an endpoint that is
// there, whatever happened to the one that it had: without help the kernel would
// send its packets to where the first one went.
func TestStaleFlows(t *testing.T) {
	t.Parallel()
	w := newWorld(t, config{})
	a, b, c := w.Local[0], w.RemotePods[0], w.RemotePods[1]
	bystanders := w.flows(t, w.applied(t, w.service("bystander").to(ready(a, b, c))), datagrams(), []traffic.Protocol{traffic.TCP})
	for _, e := range bystanders {
		e.ask(t)
	}
	rows := []struct {
		name          string
		before, after []endpoint
		had, has      fate
	}{
		{"the only endpoint goes, another one comes", ready(a), ready(b), spread(a), spread(b)},
		{"one of two goes", ready(a, b), ready(b), spread(a, b), spread(b)},
		{"one of three goes", ready(a, b, c), ready(a, b), spread(a, b, c), spread(a, b)},
		{"not ready any more", ready(a), append(unready(a), ready(c)...), spread(a), spread(c)},
		{"the last endpoint goes", ready(a), nil, spread(a), refused()},
		{"the first endpoint comes", nil, ready(a, b), refused(), spread(a, b)},
		{"an endpoint comes", ready(a), ready(a, b), spread(a), spread(a)}, // flows stay with the one they have
	}
	services := make([]*svc, len(rows))
	for i, r := range rows {
		services[i] = w.service(fmt.Sprintf("row-%d", i)).to(r.before)
	}
	w.apply(t, services...)
	for i, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			flows := w.flows(t, services[i], datagrams())
			for _, e := range flows {
				first := e.Ask(t.Context())
				if err := r.had.oneOf(first); err != nil {
					t.Fatalf("%s: before: %v", e.name, err)
				}
				e.backend = first.Backend
			}
			w.apply(t, services[i].to(r.after))
			// When those that had to move have, the clean-up has come to all of them.
			var stayed []*established
			for _, e := range flows {
				if e.backend.IsValid() && slices.Contains(r.has.addresses(familyOf(e.backend.Addr())), e.backend) {
					stayed = append(stayed, e)
					continue
				}
				wantServed(t, e, r.has)
			}
			for _, e := range stayed {
				if e.ask(t); e.err != nil {
					t.Errorf("its endpoint is still there: %v", e.err)
				}
			}
			for _, e := range bystanders {
				if e.ask(t); e.err != nil {
					t.Errorf("a flow of another service: %v", e.err)
				}
			}
		})
	}
	t.Run("the service goes", func(t *testing.T) {
		s := w.applied(t, w.service("going").to(ready(a)))
		flows := w.flows(t, s, datagrams())
		for _, e := range flows {
			if r := e.Ask(t.Context()); r.Outcome != traffic.Answered {
				t.Fatalf("%s: %s", e.name, r)
			}
		}
		w.remove(t, s)
		for _, e := range flows {
			wantServed(t, e, dropped())
		}
	})
}

// Flows that began before their service was there led nowhere; when it comes, they
// lead to it.
func TestFlowsOlderThanTheirService(t *testing.T) {
	t.Parallel()
	w := newWorld(t, config{})
	s := w.service("late").to(ready(w.Local[0], w.RemotePods[0]))
	flows := w.flows(t, s, []traffic.Protocol{traffic.UDP})
	for _, e := range flows {
		if r := e.askSoon(t); r.Outcome != traffic.TimedOut {
			t.Fatalf("%s: %s, want timed out", e.name, r)
		}
	}
	w.apply(t, s)
	for _, e := range flows {
		wantServed(t, e, spread(w.Local[0], w.RemotePods[0]))
	}
}

// Established TCP connections stay with the endpoint that they have, for as long as
// it serves them.
func TestEstablishedConnectionsStay(t *testing.T) {
	t.Parallel()
	w := newWorld(t, config{})
	s := w.applied(t, w.service("web").to(ready(w.Local[0])))
	conns := w.flows(t, s, []traffic.Protocol{traffic.TCP})
	for _, has := range [][]endpoint{ready(w.Local[0]), ready(w.RemotePods[0]), draining(w.Local[0]), nil} {
		w.apply(t, s.to(has))
		for _, e := range conns {
			if e.ask(t); e.err != nil {
				t.Errorf("with %d endpoints: %v", len(has), e.err)
			}
		}
	}
	w.remove(t, s)
	for _, e := range conns {
		if e.ask(t); e.err != nil {
			t.Errorf("without the service: %v", e.err)
		}
	}
}

// datagrams are the protocols whose flows nobody but nftproxy ends.
func datagrams() []traffic.Protocol { return []traffic.Protocol{traffic.UDP, traffic.SCTP} }

// applied applies a service and returns it.
func (w *world) applied(t *testing.T, s *svc) *svc {
	t.Helper()
	w.apply(t, s)
	return s
}

// flows opens a socket from every client to the service in each protocol and family.
func (w *world) flows(t *testing.T, s *svc, protocols ...[]traffic.Protocol) []*established {
	t.Helper()
	var list []*established
	for _, p := range slices.Concat(protocols...) {
		for _, f := range netns.Families() {
			for _, from := range w.clients() {
				list = append(list, establish(t, from, p, s.at(f, servicePort)))
			}
		}
	}
	return list
}

// oneOf returns nil if the fate allows the result of one request.
func (f fate) oneOf(r traffic.Result) error {
	if r.Outcome != f.outcome {
		return fmt.Errorf("%s, want %s", r, f.outcome)
	}
	if r.Outcome != traffic.Answered {
		return nil
	}
	if backends := f.addresses(familyOf(r.Backend.Addr())); !slices.Contains(backends, r.Backend) {
		return fmt.Errorf("answered by %s, want one of %s", r.Backend, backends)
	}
	return nil
}

// wantServed waits until the socket has the fate.
func wantServed(t *testing.T, e *established, want fate) {
	t.Helper()
	eventually(t, e.name, func() error { return want.oneOf(e.askSoon(t)) })
}
