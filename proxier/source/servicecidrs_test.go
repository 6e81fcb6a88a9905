// SPDX-License-Identifier: Apache-2.0

package source

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/nftproxy/nftproxy/proxier/source/sourcetest"
)

// failing fails lists of ServiceCIDRs as the test says.
type failing struct {
	err    atomic.Pointer[error] // nil: they do not fail
	lists  atomic.Int32
	events chan string // of the watch
}

func (f *failing) fail(err error) { f.err.Store(&err) }
func (f *failing) succeed()       { f.err.Store(nil) }

// answer is an API server's that has one ServiceCIDR.
func (f *failing) answer(r *http.Request) (*http.Response, error) {
	switch {
	case r.URL.Path != pathCIDRs || isInitial(r):
		return well(r)
	case isWatch(r):
		reader, writer := io.Pipe()
		ended := context.AfterFunc(r.Context(), func() { _ = writer.CloseWithError(r.Context().Err()) })
		go func() {
			defer ended()
			select {
			case e := <-f.events:
				_, _ = io.WriteString(writer, e+"\n")
				_ = writer.Close()
			case <-r.Context().Done():
			}
		}()
		return answerOf(http.StatusOK, "application/json", reader), nil
	}
	if r.URL.Query().Get("limit") != "1" { // which only asks for the version
		f.lists.Add(1)
	}
	if failed := f.err.Load(); failed != nil {
		var status *apierrors.StatusError
		if errors.As(*failed, &status) {
			return statusAnswer(int(status.ErrStatus.Code), status.ErrStatus.Reason), nil
		}
		return nil, *failed
	}
	return jsonAnswer(listText("5", apiServiceCIDR("kubernetes", "10.96.0.0/16"))), nil
}

// withServiceCIDRs runs a Cluster with one ServiceCIDR whose lists fail at first, in fake time.
func withServiceCIDRs(t *testing.T, err error, test func(t *testing.T, f *failing, r *sourcetest.Recorder)) {
	synctest.Test(t, func(t *testing.T) {
		f := &failing{events: make(chan string)}
		f.fail(err)
		r := sourcetest.New(t)
		_, c := scriptedCluster(t, r, f.answer)
		sourcetest.Run(r, c.Run)
		synctest.Wait()
		test(t, f, r)
	})
}

// after returns what happens within d: the calls of ServiceCIDRs, the lists of them, and the warnings.
func after(d time.Duration, f *failing, r *sourcetest.Recorder) (calls []string, lists int, warnings []string) {
	before := f.lists.Load()
	time.Sleep(d)
	synctest.Wait()
	calls, warnings = r.Take()
	calls = slices.DeleteFunc(calls, func(s string) bool { return !strings.HasPrefix(s, "cidr") })
	return calls, int(f.lists.Load() - before), warnings
}

func expectAfter(t *testing.T, d time.Duration, f *failing, r *sourcetest.Recorder, wantCalls string, leastLists, mostLists, wantWarnings int) {
	t.Helper()
	calls, lists, warnings := after(d, f, r)
	if fmt.Sprint(calls) != wantCalls || lists < leastLists || lists > mostLists || len(warnings) != wantWarnings {
		t.Errorf("within %v: calls %v, %d lists, warnings %q; want calls %s, %d to %d lists, %d warnings",
			d, calls, lists, warnings, wantCalls, leastLists, mostLists, wantWarnings)
	}
}

var cidrResource = networkingv1.Resource("servicecidrs")

func TestServiceCIDRsForbidden(t *testing.T) {
	t.Parallel()
	forbidden := apierrors.NewForbidden(cidrResource, "", errors.New("not you"))
	withServiceCIDRs(t, forbidden, func(t *testing.T, f *failing, r *sourcetest.Recorder) {
		expectAfter(t, 0, f, r, "[cidrs []]", 0, 0, 1)
		expectAfter(t, time.Hour, f, r, "[]", 60, 240, 0) // the backoff is 15 to 60 s at last
		f.succeed()
		expectAfter(t, time.Minute, f, r, "[cidrs [kubernetes]]", 1, 1, 0)
		// The right is taken away again: that is news, and what was known stays.
		f.fail(forbidden)
		f.events <- event("ERROR", json.RawMessage(statusText(http.StatusGone, metav1.StatusReasonExpired)))
		expectAfter(t, time.Hour, f, r, "[]", 60, 240, 1)
	})
}

func TestServiceCIDRsNotThere(t *testing.T) {
	t.Parallel()
	withServiceCIDRs(t, apierrors.NewNotFound(cidrResource, ""), func(t *testing.T, f *failing, r *sourcetest.Recorder) {
		expectAfter(t, 0, f, r, "[cidrs []]", 0, 0, 1)
		expectAfter(t, time.Hour+time.Minute, f, r, "[]", 6, 6, 0)
		// The API comes with an upgrade, but not yet the right to use it.
		f.fail(apierrors.NewForbidden(cidrResource, "", errors.New("not you")))
		expectAfter(t, absentRetry, f, r, "[]", 1, 100, 1)
		f.succeed()
		expectAfter(t, time.Minute, f, r, "[cidrs [kubernetes]]", 1, 1, 0)
	})
}

// Other answers are warned of as for other kinds, but nobody waits for them either.
func TestServiceCIDRsServerInTrouble(t *testing.T) {
	t.Parallel()
	withServiceCIDRs(t, apierrors.NewInternalError(errors.New("no disk")), func(t *testing.T, f *failing, r *sourcetest.Recorder) {
		expectAfter(t, 0, f, r, "[cidrs []]", 0, 0, 1)
		expectAfter(t, 2*time.Second, f, r, "[]", 1, 3, 1)
		f.succeed()
		expectAfter(t, time.Minute, f, r, "[cidrs [kubernetes]]", 1, 1, 0)
	})
}

// A server that cannot be reached says nothing about what there is.
func TestServiceCIDRsUnreachable(t *testing.T) {
	t.Parallel()
	withServiceCIDRs(t, errors.New("no route to host"), func(t *testing.T, f *failing, r *sourcetest.Recorder) {
		expectAfter(t, 0, f, r, "[]", 0, 0, 1)
		f.succeed()
		expectAfter(t, time.Minute, f, r, "[cidrs [kubernetes]]", 1, 1, 0)
	})
}
