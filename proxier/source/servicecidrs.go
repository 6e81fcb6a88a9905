// SPDX-License-Identifier: Apache-2.0

package source

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// absentRetry is how long to wait before asking again for an API that the server does not have: only an upgrade brings it.
const absentRetry = 10 * time.Minute

// followServiceCIDRs runs until ctx ends.
func (c Cluster) followServiceCIDRs(ctx context.Context, s store[*networkingv1.ServiceCIDR]) {
	o := &optional{cluster: c}
	replace := s.replace
	var known bool // guarded by s.mu
	s.replace = func(list []*networkingv1.ServiceCIDR) {
		known = true
		o.listed()
		replace(list)
	}
	o.none = func() {
		s.call(func() {
			if !known {
				known = true
				replace(nil)
			}
		})
	}
	for ctx.Err() == nil {
		attempt, stop := context.WithCancel(ctx)
		o.stop = stop
		reflect(attempt, c.serviceCIDRs(o), &networkingv1.ServiceCIDR{}, s)
		stop()
		select {
		case <-ctx.Done():
		case <-time.After(absentRetry):
		}
	}
}

func (c Cluster) serviceCIDRs(o *optional) reflected {
	api := c.Client.ServiceCIDRs()
	r := resource{kind: "ServiceCIDRs", plural: "servicecidrs", group: networkingv1.GroupName, is: of[*networkingv1.ServiceCIDR], report: o.failed}
	return listWatch(c, r, api.List, api.Watch, func(*metav1.ListOptions) {})
}

// optional handles the failures of a resource that proxying can do without. Its methods are called by one reflector and its watch.
type optional struct {
	cluster Cluster
	none    func() // tells the sink that there are none, if it has been told nothing yet
	stop    func() // ends the reflector

	mu   sync.Mutex
	told failure // last warned of
}

// failure is a kind of failure.
type failure struct {
	verb   string
	reason metav1.StatusReason
}

// listed notes that the list has come: if it fails again, that is news.
func (o *optional) listed() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.told.verb == "list" {
		o.told = failure{}
	}
}

// failed keeps nobody waiting once the server has answered at all, and tells only once that it lacks the resource or denies it.
func (o *optional) failed(ctx context.Context, r resource, verb string, err error) {
	var answer apierrors.APIStatus
	answered := errors.As(err, &answer) || errors.As(err, new(answerError))
	if ctx.Err() != nil || !answered {
		o.cluster.warn(ctx, r, verb, err)
		return
	}
	o.none()
	o.mu.Lock()
	defer o.mu.Unlock()
	now := failure{verb, apierrors.ReasonForError(err)}
	switch {
	case !apierrors.IsNotFound(err) && !apierrors.IsForbidden(err):
		o.cluster.warn(ctx, r, verb, err)
		return
	case now != o.told && o.cluster.Warn != nil:
		o.cluster.Warn(fmt.Errorf("%s %s at the API server, going on without: %w%s", verb, r.kind, err, advice(r, verb, err)))
	}
	o.told = now
	if apierrors.IsNotFound(err) {
		o.stop()
	}
}
