// SPDX-License-Identifier: Apache-2.0

package events

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/events"
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
	recorder    events.EventRecorder
	broadcaster events.EventBroadcaster
	limit       flowcontrol.PassiveRateLimiter
	pending     *pending
	stop        context.CancelFunc
}

// New returns a Recorder for a node. The client needs the right to create and patch events. warn, if not nil, is told why
// events cannot be sent: once, and again if that comes back after a success. It must not call the Recorder.
func New(client kubernetes.Interface, nodeName string, warn func(error)) *Recorder {
	// The zero Logger discards: warn is told what matters.
	ctx, stop := context.WithCancel(klog.NewContext(context.Background(), klog.Logger{}))
	waiting := newPending()
	broadcaster := events.NewBroadcaster(&sink{
		api: events.EventSinkImpl{Interface: client.EventsV1()}, instance: printable.Cut(nodeName, maxInstance), warn: warn, pending: waiting,
	})
	// It fails only after Shutdown.
	_ = broadcaster.StartRecordingToSinkWithContext(ctx)
	return &Recorder{
		recorder:    broadcaster.NewRecorder(scheme.Scheme, controller).WithLogger(klog.Logger{}),
		broadcaster: broadcaster,
		limit:       flowcontrol.NewTokenBucketPassiveRateLimiter(perSecond, burst),
		pending:     waiting,
		stop:        stop,
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
	if !r.limit.TryAccept() || !r.pending.add(subject{about, reason}) {
		return
	}
	doing := action
	if about.Kind == "Node" {
		doing = nodeAction
	}
	r.recorder.Eventf(&about, nil, kind, reason, doing, "%s", printable.Cut(message, maxNote))
}

// Close tries for up to two seconds to send what is queued, and ends all goroutines. It is called once.
func (r *Recorder) Close() {
	timeout := time.NewTimer(flushTime)
	defer timeout.Stop()
	select {
	case <-r.pending.close():
	case <-timeout.C:
	}
	r.stop()
	r.broadcaster.Shutdown()
}

// Func takes warnings instead of a Recorder. A nil one drops them.
type Func func(about corev1.ObjectReference, reason, message string)

// Warning calls f.
func (f Func) Warning(about corev1.ObjectReference, reason, message string) {
	if f != nil {
		f(about, reason, message)
	}
}
