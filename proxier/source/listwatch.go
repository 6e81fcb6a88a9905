// SPDX-License-Identifier: Apache-2.0

package source

import (
	"context"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
)

// listWatch makes the requests of a reflector, and tells of those that fail. That is done here and not in the reflector's
// error handler because the reflector tries some failures again (connection refused, too many requests) without calling that.
func listWatch[L runtime.Object](
	c Cluster,
	r resource,
	list func(context.Context, metav1.ListOptions) (L, error),
	open func(context.Context, metav1.ListOptions) (watch.Interface, error),
	restrict func(*metav1.ListOptions),
) cache.ListerWatcher {
	report := c.warn
	if r.report != nil {
		report = r.report
	}
	lw := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			restrict(&options)
			l, err := list(ctx, options)
			if err != nil {
				report(ctx, r, "list", err)
				return nil, err
			}
			return l, nil
		},
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			restrict(&options)
			w, err := open(ctx, options)
			// When a watch is asked to send the first list, and the server does not want that, the reflector lists at once.
			if err != nil && (options.SendInitialEvents == nil || retriedInPlace(err)) {
				report(ctx, r, "watch", err)
			}
			return w, err
		},
	}
	return cache.ToListWatcherWithWatchListSemantics(lw, c.Client)
}
