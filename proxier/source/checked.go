// SPDX-License-Identifier: Apache-2.0

package source

import (
	"fmt"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
)

// check refuses what no API server sends: an object of another type, or one that cannot be told from others.
func (r resource) check(o runtime.Object) error {
	m, ok := o.(metav1.Object)
	switch {
	case o == nil:
		return badAnswer("take an object for one of %s: there is none", r.plural)
	case !ok || !r.is(o):
		return badAnswer("take an object for one of %s: it is a %T", r.plural, o)
	case m.GetName() == "":
		return badAnswer("take an object for one of %s: it has no name", r.plural)
	case r.namespaced && m.GetNamespace() == "":
		return badAnswer("take %s for one of %s: it has no namespace", m.GetName(), r.plural)
	}
	return nil
}

// checkItems checks the objects of a list.
func (r resource) checkItems(list runtime.Object) error {
	return apimeta.EachListItem(list, r.check)
}

// eventCheck checks the events of a watch. A reflector passes over what it cannot use, and goes on; but what it has missed then
// is never told again. So the first bad event ends the watch, and all is listed again.
type eventCheck struct {
	resource resource
	report   func(error)
	initial  bool                 // the first list comes through the watch, and is not at its end
	newest   bool                 // it was asked for whatever is newest
	size     int                  // of that list so far, in bytes
	done     func(version string) // that list is at its end, which is at a resource version; nil: nobody wants to know
	last     string               // the resource version of the last event, or that the watch began after
}

// follow returns a watch with the events that are good.
func (c *eventCheck) follow(from watch.Interface) watch.Interface {
	w := &checkedWatch{from: from, events: make(chan watch.Event), stopped: make(chan struct{})}
	go w.run(c)
	return w
}

// event returns an event as it is passed on, and whether the watch goes on.
func (c *eventCheck) event(e watch.Event) (watch.Event, bool) {
	err := c.check(e)
	if e.Type == watch.Error {
		err = apierrors.FromObject(e.Object)
		if !c.initial || !c.newest || !isExpired(err) {
			c.report(err)
			return e, false
		}
		err = notExpired(err)
	}
	if err != nil {
		c.report(err)
		status := apierrors.NewInternalError(err).Status()
		return watch.Event{Type: watch.Error, Object: &status}, false
	}
	return e, true
}

func (c *eventCheck) check(e watch.Event) error {
	if e.Type == watch.Error {
		return nil
	}
	m, ok := e.Object.(metav1.Object)
	if e.Type != watch.Bookmark || !ok || !c.resource.is(e.Object) {
		if err := c.resource.check(e.Object); err != nil {
			return fmt.Errorf("%w, in an event %s", err, e.Type)
		}
	}
	version := m.GetResourceVersion()
	if version == "" {
		return badAnswer("take an event %s of %s: its object has no metadata.resourceVersion", e.Type, c.resource.plural)
	}
	if !c.initial {
		// What comes in another order may end with an older state, which nothing would ever correct.
		if older(version, c.last) {
			return badAnswer("take an event %s of %s: its resource version %s is lower than %s, which came before", e.Type, c.resource.plural, version, c.last)
		}
		c.last = version
		return nil
	}
	if sized, ok := e.Object.(interface{ Size() int }); ok {
		c.size += sized.Size()
	}
	switch {
	case c.size > maxList:
		return errTooLarge(maxList)
	case e.Type == watch.Bookmark && m.GetAnnotations()[metav1.InitialEventsAnnotationKey] == "true":
		c.initial, c.last = false, version
		if c.done != nil {
			c.done(version)
		}
	}
	return nil
}

// checkedWatch is a watch whose events are checked.
type checkedWatch struct {
	from    watch.Interface
	events  chan watch.Event
	stopped chan struct{}
	once    sync.Once
}

// Stop implements watch.Interface.
func (w *checkedWatch) Stop() {
	w.once.Do(func() {
		close(w.stopped)
		w.from.Stop()
	})
}

// ResultChan implements watch.Interface.
func (w *checkedWatch) ResultChan() <-chan watch.Event { return w.events }

func (w *checkedWatch) run(c *eventCheck) {
	defer close(w.events)
	defer w.Stop()
	for e := range w.from.ResultChan() {
		out, goOn := c.event(e)
		select {
		case w.events <- out:
		case <-w.stopped:
			return
		}
		if !goOn {
			return
		}
	}
}
