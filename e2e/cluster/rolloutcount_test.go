// SPDX-License-Identifier: Apache-2.0

//go:build linux

package cluster

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/nftproxy/nftproxy/e2e/traffic"
)

const (
	watchDelay = 100 * time.Millisecond // the watch may hear of a pod so much later than a proxy does
	newFor     = 5 * time.Second        // after it became ready a pod is a new one
)

// rolloutAttempt is a connection, and the pod that it was sent to.
type rolloutAttempt struct {
	traffic.Result
	at  time.Time // its begin
	pod podTimes  // zero if nobody knows which pod
}

// from is its source, also where nobody answered.
func (a rolloutAttempt) from() netip.AddrPort {
	var failed *net.OpError
	if errors.As(a.Err, &failed) {
		if source, ok := failed.Source.(*net.TCPAddr); ok {
			return netip.AddrPortFrom(source.AddrPort().Addr().Unmap(), uint16(source.Port))
		}
	}
	return a.Local
}

// How a connection fails.
const (
	faultRefused  = "refused"
	faultTimedOut = "timed out"
	faultReset    = "reset"
	faultOther    = "other"
)

func (a rolloutAttempt) String() string {
	text := fmt.Sprintf("from %s: %s", a.from(), a.Result)
	if !a.pod.ready.IsZero() {
		text += fmt.Sprintf(", %.2f s after its pod became ready", a.sinceReady().Seconds())
	}
	if !a.pod.deleted.IsZero() {
		text += fmt.Sprintf(", %.2f s after that was deleted", a.sinceDeleted().Seconds())
	}
	return text
}

// fault says how a connection failed that got no answer.
func (a rolloutAttempt) fault() string {
	switch {
	case a.Outcome == traffic.Refused:
		return faultRefused
	case a.Outcome == traffic.TimedOut:
		return faultTimedOut
	case errors.Is(a.Err, syscall.ECONNRESET):
		return faultReset
	}
	return faultOther
}

// leaving tells whether its pod was being deleted.
func (a rolloutAttempt) leaving() bool {
	return !a.pod.deleted.IsZero() && a.sinceDeleted() > -watchDelay
}

// fresh tells whether its pod had become ready just before.
func (a rolloutAttempt) fresh() bool {
	return !a.pod.ready.IsZero() && !a.leaving() && a.sinceReady() > -watchDelay && a.sinceReady() < newFor
}

func (a rolloutAttempt) sinceReady() time.Duration   { return a.at.Sub(a.pod.ready) }
func (a rolloutAttempt) sinceDeleted() time.Duration { return a.at.Sub(a.pod.deleted) }

// podTimes are when a watch told that a pod was ready and that it was being deleted. Zero: it was not.
type podTimes struct {
	uid            types.UID
	ready, deleted time.Time
}

// podHistory has the times of pods, by their addresses.
type podHistory struct {
	mu   sync.Mutex
	pods map[netip.Addr]podTimes
}

// watchPods watches the pods with a label until the test ends.
func (s *site) watchPods(label string) *podHistory {
	h := &podHistory{pods: map[netip.Addr]podTimes{}}
	var running sync.WaitGroup
	running.Go(func() {
		for s.t.Context().Err() == nil { // the API server ends each watch some time
			if err := h.watch(s, label); err != nil && s.t.Context().Err() == nil {
				s.t.Logf("watch pods: %v", err)
				time.Sleep(watchDelay)
			}
		}
	})
	s.t.Cleanup(running.Wait)
	return h
}

// watch notes pods until the watch ends.
func (h *podHistory) watch(s *site, label string) error {
	w, err := s.Client().CoreV1().Pods(shop).Watch(s.t.Context(), metav1.ListOptions{LabelSelector: label})
	if err != nil {
		return err
	}
	defer w.Stop()
	for e := range w.ResultChan() {
		if p, ok := e.Object.(*corev1.Pod); ok && p.Status.PodIP != "" {
			h.note(p)
		}
	}
	return nil
}

func (h *podHistory) note(p *corev1.Pod) {
	h.mu.Lock()
	defer h.mu.Unlock()
	address := netip.MustParseAddr(p.Status.PodIP)
	times := h.pods[address]
	if times.uid != p.UID {
		times = podTimes{uid: p.UID} // addresses come again
	}
	if times.ready.IsZero() && ready(*p) {
		times.ready = time.Now()
	}
	if times.deleted.IsZero() && p.DeletionTimestamp != nil {
		times.deleted = time.Now()
	}
	h.pods[address] = times
}

// identify fills in the pods that connections were sent to, by their clients' addresses.
func (h *podHistory) identify(list []rolloutAttempt, destinations map[netip.AddrPort]netip.Addr) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range list {
		list[i].pod = h.pods[destinations[list[i].from()]]
	}
}

// failed returns those that got no answer.
func failed(list []rolloutAttempt) []rolloutAttempt {
	return slices.DeleteFunc(slices.Clone(list), func(a rolloutAttempt) bool { return a.Outcome == traffic.Answered })
}

// outcomes says how many connections failed, and how.
func (w *rolloutWay) outcomes() string {
	counts := map[string]int{}
	for _, a := range failed(w.attempts) {
		counts[a.fault()]++
	}
	var parts []string
	for _, fault := range []string{faultRefused, faultTimedOut, faultReset, faultOther} {
		if counts[fault] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", counts[fault], fault))
		}
	}
	if parts == nil {
		return "0"
	}
	return strings.Join(parts, ", ")
}

// summary says besides which pods they were sent to.
func (w *rolloutWay) summary() string {
	var fresh, leaving int
	var last time.Duration
	for _, a := range failed(w.attempts) {
		switch {
		case a.leaving():
			leaving++
		case a.fresh():
			fresh++
			last = max(last, a.sinceReady())
		}
	}
	return fmt.Sprintf("%d connections; failed: %s; %d of these to leaving pods, %d to new ones, the last %.2f s after Ready",
		len(w.attempts), w.outcomes(), leaving, fresh, last.Seconds())
}

// rolloutHead is the head of the table of docs/operations.md, and rolloutLine a line of it.
func rolloutHead() string {
	head, rule := "| pods |", "|---|"
	for _, w := range rolloutWays() {
		head += " " + w.title + " |"
		rule += "---|"
	}
	return head + "\n" + rule + "\n"
}

func rolloutLine(scene rolloutScene, ways []*rolloutWay) string {
	line := "| " + scene.String() + " |"
	for _, w := range ways {
		line += " " + w.outcomes() + " |"
	}
	return line + "\n"
}

// clientAddr is the address of the client pod on a node.
func (s *site) clientAddr(n *Node) netip.Addr {
	s.t.Helper()
	pods, err := s.pods(s.t.Context(), "app=client")
	must(s.t, err)
	for _, p := range pods {
		if p.Spec.NodeName == n.Name() {
			return netip.MustParseAddr(p.Status.PodIP)
		}
	}
	s.t.Fatalf("no client pod is on %s", n.Name())
	return netip.Addr{}
}

// TestRolloutCounts: connections that fail are counted as those to new and to leaving pods.
func TestRolloutCounts(t *testing.T) {
	began := time.Now()
	at := func(s float64) time.Time { return began.Add(time.Duration(s * float64(time.Second))) }
	old, young := netip.MustParseAddr("10.244.1.2"), netip.MustParseAddr("10.244.1.3")
	h := podHistory{pods: map[netip.Addr]podTimes{old: {ready: at(-60), deleted: at(2)}, young: {ready: at(1)}}}
	attempt := func(port uint16, s float64, o traffic.Outcome) rolloutAttempt {
		return rolloutAttempt{at: at(s), Result: traffic.Result{Outcome: o, Local: netip.AddrPortFrom(old, port)}}
	}
	w := rolloutWay{attempts: []rolloutAttempt{
		attempt(1, 0, traffic.Answered), attempt(1, 1, traffic.TimedOut), attempt(1, 1.95, traffic.Failed), attempt(1, 3, traffic.TimedOut),
		attempt(2, 0.95, traffic.Refused), attempt(2, 1.5, traffic.Refused), attempt(2, 7, traffic.Refused), attempt(3, 1, traffic.Refused),
		attempt(1, 4, traffic.Failed),
	}}
	w.attempts[2].Err = fmt.Errorf("read: %w", syscall.ECONNRESET)
	source := &net.TCPAddr{IP: old.AsSlice(), Port: 2}
	w.attempts[4].Local, w.attempts[4].Err = netip.AddrPort{}, fmt.Errorf("connect: %w", &net.OpError{Op: "dial", Source: source, Err: syscall.ECONNREFUSED})
	h.identify(w.attempts, map[netip.AddrPort]netip.Addr{netip.AddrPortFrom(old, 1): old, netip.AddrPortFrom(old, 2): young})
	const want = "9 connections; failed: 4 refused, 2 timed out, 1 reset, 1 other; 3 of these to leaving pods, 2 to new ones, the last 0.50 s after Ready"
	if got := w.summary(); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	if got := (&rolloutWay{attempts: w.attempts[:1]}).outcomes(); got != "0" {
		t.Errorf("where none failed: %s", got)
	}
}
