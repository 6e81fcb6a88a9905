// SPDX-License-Identifier: Apache-2.0

package events

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
)

// API creates and patches the Events of a namespace.
type API interface {
	Create(context.Context, *eventsv1.Event, metav1.CreateOptions) (*eventsv1.Event, error)
	Patch(ctx context.Context, name string, pt types.PatchType, data []byte, opts metav1.PatchOptions, subresources ...string) (*eventsv1.Event, error)
}

// How long the requests for an event are made again, and how long after one has failed.
const (
	retryTime  = 2 * time.Minute
	retryPause = 10 * time.Second
)

// sender makes requests, one after the other.
type sender struct {
	api     func(namespace string) API
	warn    func(error) // may be nil
	failing bool        // the last request failed
}

// send sends what next returns, again and again until that is done or hopeless. It says whether the API server has it now.
func (s *sender) send(ctx context.Context, next func() (e *eventsv1.Event, created bool)) bool {
	for end := time.Now().Add(retryTime); ; {
		e, created := next()
		err := s.request(ctx, e, created)
		s.tell(ctx, e, err)
		if err == nil || !temporary(err) || time.Now().After(end) {
			return err == nil
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(wait.Jitter(retryPause, 0.25)):
		}
	}
}

// request creates an event, or writes what has become of one that is there.
func (s *sender) request(ctx context.Context, e *eventsv1.Event, created bool) error {
	api := s.api(e.Namespace)
	if created {
		patch, err := json.Marshal(map[string]any{"series": e.Series})
		if err != nil {
			return err
		}
		if _, err = api.Patch(ctx, e.Name, types.MergePatchType, patch, metav1.PatchOptions{}); !apierrors.IsNotFound(err) {
			return err
		}
	}
	_, err := api.Create(ctx, e, metav1.CreateOptions{})
	return err
}

// temporary says whether the same request may succeed later: the server was not reached, or has too much to do.
func temporary(err error) bool {
	var status *apierrors.StatusError
	if !errors.As(err, &status) {
		return true
	}
	return apierrors.IsTooManyRequests(err) || apierrors.IsServiceUnavailable(err) || apierrors.IsServerTimeout(err) ||
		apierrors.IsTimeout(err) || apierrors.IsInternalError(err)
}

// tell tells of a failure: once, until a request succeeds. That a namespace goes, or that an event is there, is none.
func (s *sender) tell(ctx context.Context, e *eventsv1.Event, err error) {
	switch {
	case err == nil:
		s.failing = false
	case ctx.Err() != nil, apierrors.IsAlreadyExists(err), apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
	case !s.failing:
		s.failing = true
		if s.warn != nil {
			s.warn(explain(e, err))
		}
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
