// SPDX-License-Identifier: Apache-2.0

package source

import (
	"context"
	"errors"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	utilnet "k8s.io/apimachinery/pkg/util/net"
)

// resource names what is listed and watched: for messages, and as RBAC rules name it.
type resource struct {
	kind   string
	plural string
	group  string // empty: the core group
	// is says whether an object is one of these.
	is         func(runtime.Object) bool
	namespaced bool
	// report, if not nil, is told of failures instead of Cluster.warn.
	report func(ctx context.Context, r resource, verb string, err error)
}

// of says whether an object is of a type.
func of[T runtime.Object](o runtime.Object) bool {
	_, ok := o.(T)
	return ok
}

// warn tells that a request failed, why, and what to check.
func (c Cluster) warn(ctx context.Context, r resource, verb string, err error) {
	switch {
	case c.Warn == nil, ctx.Err() != nil:
		return
	case isExpired(err):
		// The list is older than the server remembers: every long watch meets this, and a fresh list cures it.
		return
	}
	c.Warn(fmt.Errorf("%s %s at the API server, trying again: %w%s", verb, r.kind, err, advice(r, verb, err)))
}

// answerError is about what an answer says that came whole. It says itself what to do.
type answerError struct{ error }

func badAnswer(format string, args ...any) error { return answerError{fmt.Errorf(format, args...)} }

// advice says what to do about a failure, after a semicolon.
func advice(r resource, verb string, err error) string {
	if errors.As(err, new(answerError)) {
		return ""
	}
	return "; " + whatToCheck(r, verb, err)
}

func whatToCheck(r resource, verb string, err error) string {
	switch {
	case apierrors.IsForbidden(err):
		group := r.group
		return fmt.Sprintf("allow it with a ClusterRole (apiGroups: [%q], resources: [%q], verbs: [%q]) bound to this program's user",
			group, r.plural, verb)
	case apierrors.IsUnauthorized(err):
		return "check the token or the client certificate, whether it has expired and whether this API server issued it"
	case apierrors.IsNotFound(err):
		return "check that the address is that of an API server, and that it serves " + r.groupVersion()
	case apierrors.IsTooManyRequests(err), apierrors.IsServerTimeout(err), apierrors.IsServiceUnavailable(err), apierrors.IsInternalError(err):
		return "check the health of the API server"
	}
	return "check the address of the API server, the network up to it, and its certificate"
}

func (r resource) groupVersion() string {
	if r.group == "" {
		return "v1"
	}
	return r.group + "/v1"
}

// retriedInPlace tells of the failures after which a reflector repeats the same watch request.
func retriedInPlace(err error) bool {
	return utilnet.IsConnectionRefused(err) || apierrors.IsTooManyRequests(err)
}
