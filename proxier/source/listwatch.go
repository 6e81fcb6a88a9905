// SPDX-License-Identifier: Apache-2.0

package source

import (
	"context"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
)

// listTimeout is how long one list may take. API servers give up after a minute.
const listTimeout = 5 * time.Minute

// requests makes the requests of one reflector, which come one at a time. It tells of those that fail: not the reflector's
// error handler does, because the reflector tries some failures again (connection refused, too many requests) without calling that.
type requests[L objectList] struct {
	resource resource
	report   func(ctx context.Context, r resource, verb string, err error)
	restrict func(*metav1.ListOptions)
	lister   func(context.Context, metav1.ListOptions) (L, error)
	watcher  func(context.Context, metav1.ListOptions) (watch.Interface, error)

	lists, watches pace
	pages, size    int       // of the list that comes in, in bytes
	listed         time.Time // when a list came in; zero: a watch was started since
	history
}

// history is what tells that an API server has gone back in time.
type history struct {
	held    string      // the resource version that the reflector held last
	rewound atomic.Bool // the resource version that the reflector holds is none of this API server's
	renewed time.Time   // when that was noticed last
	renew   chan struct{}
}

// fresh is how old a list may be that a watch begins after without a question: the watch may have had to wait for its turn, and the
// API server have gone back in time meanwhile.
const fresh = time.Second

// maxPages is how many parts of a list are taken.
const maxPages = 10_000

// objectList is a decoded list.
type objectList interface {
	runtime.Object
	metav1.ListMetaAccessor
}

// reflected is what a reflector makes its requests with. When something comes by renew, another reflector is to begin at once: one
// that has been waiting for its API server goes on waiting longer each time, whatever it finds.
type reflected struct {
	cache.ListerWatcher
	renew <-chan struct{}
}

// listWatch returns what a reflector makes its requests with.
func listWatch[L objectList](
	c Cluster,
	r resource,
	list func(context.Context, metav1.ListOptions) (L, error),
	open func(context.Context, metav1.ListOptions) (watch.Interface, error),
	restrict func(*metav1.ListOptions),
) reflected {
	q := &requests[L]{resource: r, report: c.warn, restrict: restrict, lister: list, watcher: open,
		history: history{renew: make(chan struct{}, 1)}}
	if r.report != nil {
		q.report = r.report
	}
	lw := &cache.ListWatch{ListWithContextFunc: q.list, WatchFuncWithContext: q.watch}
	return reflected{cache.ToListWatcherWithWatchListSemantics(lw, c.Client), q.renew}
}

// list lists for the reflector.
func (q *requests[L]) list(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
	if err := q.begin(ctx, options.Continue); err != nil {
		return nil, err
	}
	q.restrict(&options)
	q.hold(options.ResourceVersion)
	if q.rewound.Load() {
		options.ResourceVersion, options.ResourceVersionMatch = "", ""
	}
	l, err := q.checkedList(ctx, options)
	if err == nil {
		err = q.add(l)
	}
	if err != nil {
		q.report(ctx, q.resource, "list", err)
		return nil, err
	}
	q.listed = time.Now()
	q.arrived(ctx, q.held, l.GetListMeta().GetResourceVersion())
	q.held = ""
	return l, nil
}

// hold notes the resource version that the reflector holds.
func (q *requests[L]) hold(version string) {
	if older("1", version) {
		q.held = version
	}
}

// arrived notes that all objects came in, as they were at a resource version, to a reflector that had held another.
func (q *requests[L]) arrived(ctx context.Context, held, now string) {
	if told := q.rewound.Swap(false); !told && older(now, held) {
		q.report(ctx, q.resource, "list", backInTime(held, now))
	}
}

func backInTime(held, now string) error {
	return badAnswer("the API server has gone back in time, from resource version %s to %s (was etcd restored from a backup?): all is listed again", held, now)
}

// begin waits until a list may be begun; its next pages come at once.
func (q *requests[L]) begin(ctx context.Context, next string) error {
	if next != "" {
		return nil
	}
	q.pages, q.size = 0, 0
	return q.lists.wait(ctx)
}

// add counts a page of a list: one that does not end would be collected without end.
func (q *requests[L]) add(l L) error {
	q.pages++
	if sized, ok := any(l).(interface{ Size() int }); ok {
		q.size += sized.Size()
	}
	if q.pages > maxPages || q.size > maxList {
		return errTooLarge(maxList)
	}
	return nil
}

// checkedList refuses what is no list of an API server: without a resource version an answer such as {} would be an empty one.
func (q *requests[L]) checkedList(ctx context.Context, options metav1.ListOptions) (L, error) {
	var none L
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	l, err := q.lister(ctx, options)
	if err != nil {
		return none, err
	}
	if l.GetListMeta().GetResourceVersion() == "" {
		return none, badAnswer("take the answer for a list of %s: it is of another kind, or has no metadata.resourceVersion: is this an API server?", q.resource.plural)
	}
	if err := q.resource.checkItems(l); err != nil {
		return none, err
	}
	return l, nil
}

// watch starts a watch for the reflector.
func (q *requests[L]) watch(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
	if err := q.watches.wait(ctx); err != nil {
		return nil, err
	}
	q.restrict(&options)
	initial := options.SendInitialEvents != nil
	q.hold(options.ResourceVersion)
	if initial && q.rewound.Load() {
		options.ResourceVersion = ""
	}
	if !initial && time.Since(q.listed) > fresh {
		if err := q.checkTime(ctx, options.ResourceVersion); err != nil {
			return nil, err
		}
	}
	w, err := q.watcher(ctx, options)
	if isExpired(err) && initial && options.ResourceVersion == "" {
		err = notExpired(err)
	}
	if err != nil {
		// When a watch is asked to send the first list, and the server does not want that, the reflector lists at once.
		if !initial || retriedInPlace(err) {
			q.report(ctx, q.resource, "watch", err)
		}
		return nil, err
	}
	q.listed = time.Time{}
	check := &eventCheck{resource: q.resource, initial: initial, report: func(err error) { q.report(ctx, q.resource, "watch", err) }}
	if initial {
		check.newest = options.ResourceVersion == ""
		held := q.held
		check.done = func(now string) { q.arrived(ctx, held, now) }
	} else {
		check.last = options.ResourceVersion
	}
	return check.follow(w), nil
}

// beginAnew has another reflector list everything, without delay unless that has just been so.
func (q *requests[L]) beginAnew() {
	q.rewound.Store(true)
	if time.Since(q.renewed) < quiet {
		return // the reflector lists after its delay
	}
	q.renewed, q.lists, q.watches = time.Now(), pace{}, pace{}
	select {
	case q.renew <- struct{}{}:
	default:
	}
}

// older compares resource versions; it is false where they cannot be compared.
func older(a, b string) bool {
	order, err := resourceversion.CompareResourceVersion(a, b)
	return err == nil && order < 0
}

func isExpired(err error) bool { return apierrors.IsResourceExpired(err) || apierrors.IsGone(err) }

// notExpired is for a first list through a watch: it asks for what is newest, which cannot have expired. The reflector would ask
// for the same again, without end; after another error it lists.
func notExpired(err error) error {
	return badAnswer("ask for the newest state of all: the API server says %q, which cannot be", err.Error())
}

// checkTime makes sure that the API server has not gone back in time, as it does when its etcd is restored from a backup: it takes a
// watch from a future resource version and is silent until that comes, while the objects are others. held is what the reflector
// holds. After an error it lists again.
func (q *requests[L]) checkTime(ctx context.Context, held string) error {
	if !older("1", held) {
		return nil // nothing yet, or a version that cannot be compared
	}
	options := metav1.ListOptions{Limit: 1}
	q.restrict(&options)
	l, err := q.checkedList(ctx, options)
	switch {
	case apierrors.IsForbidden(err):
		return nil // to watch may still be allowed
	case err != nil:
		q.report(ctx, q.resource, "list", err)
		return err
	}
	now := l.GetListMeta().GetResourceVersion()
	if !older(now, held) {
		return nil
	}
	err = backInTime(held, now)
	q.report(ctx, q.resource, "watch", err) // before another reflector begins: then ctx ends, and nothing is told any more
	q.beginAnew()
	return apierrors.NewResourceExpired(err.Error())
}
