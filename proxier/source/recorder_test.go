// SPDX-License-Identifier: Apache-2.0

package source

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

const deadline = 10 * time.Second

// recorder is a Sink and a Warn that write down what they are told, one line for a call. It fails the test when calls overlap.
type recorder struct {
	t    *testing.T
	busy atomic.Bool

	mu       sync.Mutex
	lines    []string
	warnings []error
	services map[string]*corev1.Service
}

func newRecorder(t *testing.T) *recorder {
	return &recorder{t: t, services: map[string]*corev1.Service{}}
}

func (r *recorder) record(format string, args ...any) {
	if !r.busy.CompareAndSwap(false, true) {
		r.t.Error("calls to the sink overlap")
	}
	r.mu.Lock()
	r.lines = append(r.lines, fmt.Sprintf(format, args...))
	r.mu.Unlock()
	r.busy.Store(false)
}

func (r *recorder) warn(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.warnings = append(r.warnings, err)
}

// take returns the calls and warnings so far and forgets them.
func (r *recorder) take() (lines, warnings []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	lines = r.lines
	for _, w := range r.warnings {
		warnings = append(warnings, w.Error())
	}
	r.lines, r.warnings = nil, nil
	return lines, warnings
}

// expect waits until exactly these calls have been made since the last time, in this order.
func (r *recorder) expect(want ...string) {
	r.t.Helper()
	r.await("calls", want, func() []string { return r.lines }, func() { r.lines = nil })
}

// expectSorted is expect where the order of the calls is not fixed.
func (r *recorder) expectSorted(want ...string) {
	r.t.Helper()
	r.await("calls", slices.Sorted(slices.Values(want)),
		func() []string { return slices.Sorted(slices.Values(r.lines)) }, func() { r.lines = nil })
}

// expectWarnings waits until exactly these warnings have been given since the last time.
func (r *recorder) expectWarnings(want ...string) {
	r.t.Helper()
	r.await("warnings", want, func() []string {
		var got []string
		for _, w := range r.warnings {
			got = append(got, w.Error())
		}
		return got
	}, func() { r.warnings = nil })
}

func (r *recorder) await(what string, want []string, got func() []string, forget func()) {
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

// run starts a source that ends with the test.
func (r *recorder) run(s Source) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx, r) }()
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

func names[T interface {
	GetNamespace() string
	GetName() string
}](list []T) string {
	var out []string
	for _, o := range list {
		out = append(out, strings.TrimPrefix(o.GetNamespace()+"/"+o.GetName(), "/"))
	}
	return fmt.Sprint(out)
}

func (r *recorder) ReplaceServices(l []*corev1.Service) { r.record("services %s", names(l)) }
func (r *recorder) UpdateService(s *corev1.Service) {
	r.record("service %s/%s %s", s.Namespace, s.Name, s.Spec.ClusterIP)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.services[s.Name] = s
}
func (r *recorder) DeleteService(namespace, name string) {
	r.record("delete service %s/%s", namespace, name)
}
func (r *recorder) ReplaceEndpointSlices(l []*discoveryv1.EndpointSlice) {
	r.record("slices %s", names(l))
}
func (r *recorder) UpdateEndpointSlice(s *discoveryv1.EndpointSlice) {
	r.record("slice %s/%s %v", s.Namespace, s.Name, s.Endpoints[0].Addresses)
}
func (r *recorder) DeleteEndpointSlice(namespace, name string) {
	r.record("delete slice %s/%s", namespace, name)
}
func (r *recorder) ReplaceNodes(l []*corev1.Node) { r.record("nodes %s", names(l)) }
func (r *recorder) UpdateNode(n *corev1.Node)     { r.record("node %s", n.Name) }
func (r *recorder) DeleteNode(name string)        { r.record("delete node %s", name) }

func (r *recorder) ReplaceServiceCIDRs(l []*networkingv1.ServiceCIDR) { r.record("cidrs %s", names(l)) }
func (r *recorder) UpdateServiceCIDR(s *networkingv1.ServiceCIDR) {
	r.record("cidr %s %v", s.Name, s.Spec.CIDRs)
}
func (r *recorder) DeleteServiceCIDR(name string) { r.record("delete cidr %s", name) }
