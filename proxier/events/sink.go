// SPDX-License-Identifier: Apache-2.0

package events

import (
	"context"
	"fmt"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/events"
)

// sink makes the library's requests. The library names the host's name as the reporting instance and logs failures;
// here it is the node's name, and failures are told of.
type sink struct {
	api      events.EventSinkImpl
	instance string
	warn     func(error)
	pending  *pending
	failing  atomic.Bool // the last request failed
}

var _ events.EventSink = (*sink)(nil)

// Create implements events.EventSink.
func (s *sink) Create(ctx context.Context, e *eventsv1.Event) (*eventsv1.Event, error) {
	e = e.DeepCopy()
	e.ReportingInstance = s.instance
	out, err := s.api.Create(ctx, e)
	s.finished(ctx, e, err)
	return out, err
}

// Update implements events.EventSink.
func (s *sink) Update(ctx context.Context, e *eventsv1.Event) (*eventsv1.Event, error) {
	e = e.DeepCopy()
	e.ReportingInstance = s.instance
	out, err := s.api.Update(ctx, e)
	s.finished(ctx, e, err)
	return out, err
}

// Patch implements events.EventSink.
func (s *sink) Patch(ctx context.Context, e *eventsv1.Event, data []byte) (*eventsv1.Event, error) {
	out, err := s.api.Patch(ctx, e, data)
	if !apierrors.IsNotFound(err) { // then the library creates it
		s.finished(ctx, e, err)
	}
	return out, err
}

// finished is called after each request.
func (s *sink) finished(ctx context.Context, e *eventsv1.Event, err error) {
	s.pending.done(subject{e.Regarding, e.Reason})
	switch {
	case err == nil:
		s.failing.Store(false)
	case ctx.Err() != nil, apierrors.IsAlreadyExists(err), apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
	case !s.failing.Swap(true) && s.warn != nil:
		s.warn(explain(e, err))
	}
}

func explain(e *eventsv1.Event, err error) error {
	advice := "check the health of the API server"
	if apierrors.IsForbidden(err) {
		advice = fmt.Sprintf("allow it with a ClusterRole (apiGroups: [%q], resources: [%q], verbs: [%q, %q]) bound to this program's user",
			eventsv1.GroupName, "events", "create", "patch")
	}
	return fmt.Errorf("send event %s about %s %s/%s: %w; %s", e.Reason, e.Regarding.Kind, e.Regarding.Namespace, e.Regarding.Name, err, advice)
}
