// SPDX-License-Identifier: Apache-2.0

package events

import (
	"cmp"
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/record/util"
	"k8s.io/client-go/util/flowcontrol"
	"k8s.io/klog/v2"

	"github.com/nftproxy/nftproxy/printable"
)

// controller is the reporting controller of all events.
const controller = "nftproxy"

// What was being done: the API wants to know. Of a Node it is what kube-proxy says.
const (
	action     = "Proxying"
	nodeAction = "StartKubeProxy"
)

// How many warnings are sent; the others are dropped.
const (
	burst     = 50
	perSecond = 1
)

// What the API server takes, in bytes.
const (
	maxNote     = 1024
	maxInstance = 128
)

// flushTime is how long Close waits for warnings on their way.
const flushTime = 2 * time.Second

// Recorder sends warnings to an API server.
type Recorder struct {
	instance string
	limit    flowcontrol.PassiveRateLimiter
	book     *book
	stop     context.CancelFunc
}

// New returns a Recorder for a node. api gives the Events of a namespace, with the right to create and patch them. warn, if not nil,
// is told why events cannot be sent: once, and again if that comes back after a success. It must not call the Recorder.
func New(api func(namespace string) API, nodeName string, warn func(error)) *Recorder {
	// The zero Logger discards what libraries log: warn is told what matters.
	ctx, stop := context.WithCancel(klog.NewContext(context.Background(), klog.Logger{}))
	r := &Recorder{
		instance: printable.Cut(nodeName, maxInstance),
		limit:    flowcontrol.NewTokenBucketPassiveRateLimiter(perSecond, burst),
		book:     newBook(),
		stop:     stop,
	}
	go r.run(ctx, &sender{api: api, warn: warn})
	return r
}

// run sends what is in the book until ctx ends.
func (r *Recorder) run(ctx context.Context, to *sender) {
	tick := time.NewTicker(finishTime)
	defer tick.Stop()
	for {
		select {
		case <-r.book.news:
		case now := <-tick.C:
			r.book.expire(now)
		case <-ctx.Done():
			return
		}
		for s, ok := r.book.next(); ok && ctx.Err() == nil; s, ok = r.book.next() {
			var e *eventsv1.Event
			sent := to.send(ctx, func() (*eventsv1.Event, bool) {
				var created bool
				e, created = r.book.state(s)
				return e, created
			})
			r.book.done(s, e, sent)
		}
	}
}

// Warning sends an event of type Warning about an object, unless there are too many. The reason is one word in CamelCase; the
// message is made printable and cut to the API's limit of 1024 bytes. It does not wait. After Close it does nothing.
func (r *Recorder) Warning(about corev1.ObjectReference, reason, message string) {
	r.send(about, corev1.EventTypeWarning, reason, message)
}

// Normal sends an event of type Normal, as Warning does.
func (r *Recorder) Normal(about corev1.ObjectReference, reason, message string) {
	r.send(about, corev1.EventTypeNormal, reason, message)
}

func (r *Recorder) send(about corev1.ObjectReference, kind, reason, message string) {
	if !r.limit.TryAccept() {
		return
	}
	now := time.Now()
	r.book.add(subject{about, kind, reason}, now, func() *eventsv1.Event {
		e := &eventsv1.Event{
			ObjectMeta:          metav1.ObjectMeta{Name: util.GenerateEventName(about.Name, now.UnixNano()), Namespace: cmp.Or(about.Namespace, metav1.NamespaceDefault)},
			EventTime:           metav1.MicroTime{Time: now},
			ReportingController: controller,
			ReportingInstance:   r.instance,
			Action:              action,
			Reason:              reason,
			Regarding:           about,
			Note:                printable.Cut(message, maxNote),
			Type:                kind,
		}
		if about.Kind == "Node" {
			e.Action = nodeAction
		}
		return e
	})
}

// Close tries for up to two seconds to send what is queued, and ends the goroutine. It is called once.
func (r *Recorder) Close() {
	timeout := time.NewTimer(flushTime)
	defer timeout.Stop()
	select {
	case <-r.book.close():
	case <-timeout.C:
	}
	r.stop()
}

// Func takes warnings instead of a Recorder. A nil one drops them.
type Func func(about corev1.ObjectReference, reason, message string)

// Warning calls f.
func (f Func) Warning(about corev1.ObjectReference, reason, message string) {
	if f != nil {
		f(about, reason, message)
	}
}
