// SPDX-License-Identifier: Apache-2.0

// Package sourcetest has what the tests of all sources share: a sink that writes down what it is told.
package sourcetest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
)

// deadline is how long a test waits for what must come.
const deadline = time.Minute

// Recorder is a source.Sink and a Warn that write down what they are told, one line for a call. It fails the test when calls overlap.
type Recorder struct {
	t    *testing.T
	busy atomic.Bool

	mu       sync.Mutex
	lines    []string
	warnings []error
	services map[string]*corev1.Service
}

// New returns a recorder that was told nothing yet.
func New(t *testing.T) *Recorder {
	return &Recorder{t: t, services: map[string]*corev1.Service{}}
}

func (r *Recorder) record(format string, args ...any) {
	if !r.busy.CompareAndSwap(false, true) {
		r.t.Error("calls to the sink overlap")
	}
	r.mu.Lock()
	r.lines = append(r.lines, fmt.Sprintf(format, args...))
	r.mu.Unlock()
	r.busy.Store(false)
}

// Warn takes a warning.
func (r *Recorder) Warn(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.warnings = append(r.warnings, err)
}

// Take returns the calls and warnings so far and forgets them.
func (r *Recorder) Take() (lines, warnings []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	lines, warnings = r.lines, texts(r.warnings)
	r.lines, r.warnings = nil, nil
	return lines, warnings
}

// Warnings returns the warnings so far.
func (r *Recorder) Warnings() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return texts(r.warnings)
}

func texts(warnings []error) []string {
	var out []string
	for _, w := range warnings {
		out = append(out, w.Error())
	}
	return out
}

// Expect waits until exactly these calls have been made since the last time, in this order.
func (r *Recorder) Expect(want ...string) {
	r.t.Helper()
	r.await("calls", want, func() []string { return r.lines }, func() { r.lines = nil })
}

// ExpectSorted is Expect where the order of the calls is not fixed.
func (r *Recorder) ExpectSorted(want ...string) {
	r.t.Helper()
	r.await("calls", slices.Sorted(slices.Values(want)),
		func() []string { return slices.Sorted(slices.Values(r.lines)) }, func() { r.lines = nil })
}

// ExpectWarnings waits until exactly these warnings have been given since the last time.
func (r *Recorder) ExpectWarnings(want ...string) {
	r.t.Helper()
	r.await("warnings", want, func() []string { return texts(r.warnings) }, func() { r.warnings = nil })
}

func (r *Recorder) await(what string, want []string, got func() []string, forget func()) {
	r.t.Helper()
	for end := time.Now().Add(deadline); ; time.Sleep(2 * time.Millisecond) {
		r.mu.Lock()
		now := slices.Clone(got())
		if slices.Equal(now, want) {
			forget()
			r.mu.Unlock()
			return
		}
		warnings := r.warnings
		r.mu.Unlock()
		if len(now) > len(want) || time.Now().After(end) {
			r.t.Fatalf("%s:\ngot\n\t%s\nwant\n\t%s\nwarnings: %v", what, strings.Join(now, "\n\t"), strings.Join(want, "\n\t"), warnings)
		}
	}
}

// AwaitWarnings waits until every text has been part of a warning. It forgets the calls meanwhile.
func (r *Recorder) AwaitWarnings(want ...string) {
	r.t.Helper()
	var all strings.Builder
	for end := time.Now().Add(deadline); ; time.Sleep(2 * time.Millisecond) {
		_, warnings := r.Take()
		all.WriteString(strings.Join(warnings, "\n") + "\n")
		missing := ""
		for _, w := range want {
			if !strings.Contains(all.String(), w) {
				missing = w
			}
		}
		if missing == "" {
			return
		}
		if time.Now().After(end) {
			r.t.Fatalf("no warning says %q; got\n%s", missing, strings.Join(strings.Fields(all.String()), " "))
		}
	}
}

// Service returns the Service of a name that was told of last by UpdateService; nil if none was.
func (r *Recorder) Service(name string) *corev1.Service {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.services[name]
}

// Run runs a source's method Run, whose sink is the recorder, until the test ends. S is source.Sink: this package does not import
// package source, so that its tests can use it.
func Run[S any](r *Recorder, run func(context.Context, S) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx, any(r).(S)) }()
	r.t.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				r.t.Errorf("Run after cancellation: %v", err)
			}
		case <-time.After(deadline):
			r.t.Error("Run does not return after cancellation")
		}
	})
}

// Names returns the names of objects as text.
func Names[T interface {
	GetNamespace() string
	GetName() string
}](list []T) string {
	var out []string
	for _, o := range list {
		out = append(out, strings.TrimPrefix(o.GetNamespace()+"/"+o.GetName(), "/"))
	}
	return fmt.Sprint(out)
}

// ReplaceServices implements source.Sink.
func (r *Recorder) ReplaceServices(l []*corev1.Service) { r.record("services %s", Names(l)) }

// UpdateService implements source.Sink.
func (r *Recorder) UpdateService(s *corev1.Service) {
	r.record("service %s/%s %s", s.Namespace, s.Name, s.Spec.ClusterIP)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.services[s.Name] = s
}

// DeleteService implements source.Sink.
func (r *Recorder) DeleteService(namespace, name string) {
	r.record("delete service %s/%s", namespace, name)
}

// ReplaceEndpointSlices implements source.Sink.
func (r *Recorder) ReplaceEndpointSlices(l []*discoveryv1.EndpointSlice) {
	r.record("slices %s", Names(l))
}

// UpdateEndpointSlice implements source.Sink.
func (r *Recorder) UpdateEndpointSlice(s *discoveryv1.EndpointSlice) {
	r.record("slice %s/%s %v", s.Namespace, s.Name, s.Endpoints[0].Addresses)
}

// DeleteEndpointSlice implements source.Sink.
func (r *Recorder) DeleteEndpointSlice(namespace, name string) {
	r.record("delete slice %s/%s", namespace, name)
}

// ReplaceNodes implements source.Sink.
func (r *Recorder) ReplaceNodes(l []*corev1.Node) { r.record("nodes %s", Names(l)) }

// UpdateNode implements source.Sink.
func (r *Recorder) UpdateNode(n *corev1.Node) { r.record("node %s", n.Name) }

// DeleteNode implements source.Sink.
func (r *Recorder) DeleteNode(name string) { r.record("delete node %s", name) }

// ReplaceServiceCIDRs implements source.Sink.
func (r *Recorder) ReplaceServiceCIDRs(l []*networkingv1.ServiceCIDR) { r.record("cidrs %s", Names(l)) }

// UpdateServiceCIDR implements source.Sink.
func (r *Recorder) UpdateServiceCIDR(s *networkingv1.ServiceCIDR) {
	r.record("cidr %s %v", s.Name, s.Spec.CIDRs)
}

// DeleteServiceCIDR implements source.Sink.
func (r *Recorder) DeleteServiceCIDR(name string) { r.record("delete cidr %s", name) }
