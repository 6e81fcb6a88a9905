// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/nftproxy/nftproxy/e2e/netns"
)

// mostWriters change Services, each its own. With so many a busy machine, on which an answer takes long, keeps the pace.
const mostWriters = 64

// writer is one of them.
type writer struct {
	*site
	diary *diary
	done  *atomic.Int64 // changes that the API server has confirmed
	mine  map[role][]*service
}

// change makes changes at an even pace until going ends. It does not catch up what it could not do
// while there was no API server.
func (r *run) change(ctx, going context.Context) error {
	var list []*writer
	writers := min(mostWriters, r.plan.Services/20)
	for range writers {
		list = append(list, &writer{site: r.site, diary: r.diary, done: &r.changes, mine: map[role][]*service{}})
	}
	for i, s := range r.services {
		w := list[i%writers]
		w.mine[s.role] = append(w.mine[s.role], s)
	}
	pace := time.Second * time.Duration(writers) / time.Duration(r.plan.Changes)
	g, ctx := errgroup.WithContext(ctx)
	for i, w := range list {
		g.Go(func() error {
			next := time.Now().Add(pace * time.Duration(i) / time.Duration(writers))
			for ; wait(going, time.Until(next)); next = next.Add(pace) {
				if err := w.one(ctx); err != nil {
					return err
				}
				if time.Since(next) > time.Second {
					next = time.Now()
				}
			}
			return nil
		})
	}
	return g.Wait()
}

// one makes one change.
func (w *writer) one(ctx context.Context) error {
	switch n := rand.IntN(100); {
	case n < 15 && len(w.mine[fickle]) > 0:
		return w.comeOrGo(ctx, pick(w.mine[fickle]))
	case n < 20 && len(w.mine[steady]) > 0:
		return w.relabel(ctx, pick(w.mine[steady]))
	case len(w.mine[rolled]) > 0:
		s := pick(w.mine[rolled])
		return w.roll(ctx, s, pick(s.families))
	}
	return nil // with so few Services there may be nothing to do
}

func pick[T any](list []T) T { return list[rand.IntN(len(list))] }

// roll makes a step of a rolling update: an endpoint is replaced at once, or is terminating before.
func (w *writer) roll(ctx context.Context, s *service, f netns.Family) error {
	c := s.crowds[f]
	next := endpoints{ready: slices.Clone(c.now.ready)}
	i := rand.IntN(len(next.ready))
	switch {
	case len(c.now.terminating) > 0:
		next.ready = append(next.ready, w.newcomer(c))
	case len(next.ready) > 1 && rand.IntN(3) == 0:
		next.terminating = append(next.terminating, next.ready[i])
		next.ready = slices.Delete(next.ready, i, i+1)
	default:
		next.ready[i] = w.newcomer(c)
	}
	return w.setEndpoints(ctx, s, f, next)
}

// newcomer returns a pod that is no endpoint.
func (w *writer) newcomer(c *crowd) pod {
	for {
		p := pick(c.pods)
		same := func(o pod) bool { return o.Addr(c.family) == p.Addr(c.family) }
		if !slices.ContainsFunc(c.now.ready, same) && !slices.ContainsFunc(c.now.terminating, same) {
			return p
		}
	}
}

// setEndpoints updates an EndpointSlice.
func (w *writer) setEndpoints(ctx context.Context, s *service, f netns.Family, next endpoints) error {
	c := s.crowds[f]
	text := fmt.Sprintf("update EndpointSlice %s: %s", s.sliceName(f), difference(f, c.now, next))
	return c.change(next, func(e endpoints) error {
		return w.write(ctx, s, text, func() error {
			_, err := w.cp.Client().DiscoveryV1().EndpointSlices(namespace).Update(ctx, s.slice(f, e), metav1.UpdateOptions{})
			return err
		})
	})
}

// difference tells of a change in words.
func difference(f netns.Family, from, to endpoints) string {
	out := ""
	tell := func(word string, list, other []pod) {
		for _, p := range list {
			if !slices.ContainsFunc(other, func(o pod) bool { return o.Addr(f) == p.Addr(f) }) {
				out += fmt.Sprintf(" %s%s", word, p.Addr(f))
			}
		}
	}
	tell("+", to.ready, from.ready)
	tell("-", from.ready, slices.Concat(to.ready, to.terminating))
	tell("terminating ", to.terminating, from.terminating)
	tell("-", from.terminating, slices.Concat(to.ready, to.terminating))
	return fmt.Sprintf("%s, %d ready", out, len(to.ready))
}

// comeOrGo takes a Service all endpoints, or deletes it, and undoes that the next time.
func (w *writer) comeOrGo(ctx context.Context, s *service) error {
	if s.away {
		return w.comeBack(ctx, s)
	}
	f := pick(s.families)
	c := s.crowds[f]
	switch {
	case len(c.now.ready) == 0:
		n := min(1+rand.IntN(5), len(c.pods))
		var next endpoints
		for _, i := range rand.Perm(len(c.pods))[:n] {
			next.ready = append(next.ready, c.pods[i])
		}
		return w.setEndpoints(ctx, s, f, next)
	case rand.IntN(3) > 0:
		return w.setEndpoints(ctx, s, f, endpoints{})
	}
	return w.leave(ctx, s)
}

// comeBack creates a Service that was deleted, with the endpoints that it had.
func (w *writer) comeBack(ctx context.Context, s *service) error {
	err := w.write(ctx, s, "create Service "+s.name, func() error {
		_, err := w.cp.Client().CoreV1().Services(namespace).Create(ctx, s.object(), metav1.CreateOptions{})
		return except(err, apierrors.IsAlreadyExists)
	})
	for _, f := range s.families {
		if err == nil {
			err = w.write(ctx, s, "create EndpointSlice "+s.sliceName(f), func() error {
				_, err := w.cp.Client().DiscoveryV1().EndpointSlices(namespace).Create(ctx, s.slice(f, s.crowds[f].now), metav1.CreateOptions{})
				return except(err, apierrors.IsAlreadyExists)
			})
		}
	}
	s.away = err != nil
	return err
}

// leave deletes a Service and its EndpointSlices.
func (w *writer) leave(ctx context.Context, s *service) error {
	s.away = true
	err := w.write(ctx, s, "delete Service "+s.name, func() error {
		return except(w.cp.Client().CoreV1().Services(namespace).Delete(ctx, s.name, metav1.DeleteOptions{}), apierrors.IsNotFound)
	})
	for _, f := range s.families {
		if err == nil {
			err = w.write(ctx, s, "delete EndpointSlice "+s.sliceName(f), func() error {
				return except(w.cp.Client().DiscoveryV1().EndpointSlices(namespace).Delete(ctx, s.sliceName(f), metav1.DeleteOptions{}), apierrors.IsNotFound)
			})
		}
	}
	return err
}

// relabel changes a Service in what a proxy has no use for.
func (w *writer) relabel(ctx context.Context, s *service) error {
	s.label++
	patch := fmt.Appendf(nil, `{"metadata":{"labels":{"changes":"%d"}}}`, s.label)
	return w.write(ctx, s, "change a label of Service "+s.name, func() error {
		_, err := w.cp.Client().CoreV1().Services(namespace).Patch(ctx, s.name, types.MergePatchType, patch, metav1.PatchOptions{})
		return err
	})
}

// except takes an error for none: of what was asked again, because the answer had been lost.
func except(err error, is func(error) bool) error {
	if is(err) {
		return nil
	}
	return err
}

const (
	// againPace is the time between two attempts at a change while there is no API server.
	againPace = 200 * time.Millisecond
	// writePatience is how long it may refuse: while it starts, and while an address of a Service that was deleted is
	// not free yet.
	writePatience = 2 * time.Minute
)

// write asks the API server for a change until it confirms it.
func (w *writer) write(ctx context.Context, s *service, text string, fn func() error) error {
	begun := time.Now()
	ended := w.diary.did(s.name, "%s", text)
	for {
		err := fn()
		if err == nil {
			ended(nil)
			w.done.Add(1)
			return nil
		}
		if time.Since(begun) > writePatience || !wait(ctx, againPace) {
			ended(err)
			return fmt.Errorf("%s: %w", text, err)
		}
	}
}
