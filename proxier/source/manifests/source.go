// SPDX-License-Identifier: Apache-2.0

package manifests

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/fsnotify/fsnotify"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"

	"github.com/nftproxy/nftproxy/proxier/source"
)

// How long changes are collected: until nothing happens for settleTime, but no longer than maxSettleTime.
// It spans an editor's write and rename, and a burst of writes to one file.
const (
	settleTime    = 20 * time.Millisecond
	maxSettleTime = 200 * time.Millisecond
)

// recheckEvery is how often the directory itself is looked at (one stat): no notification tells that it came back, or that a symbolic
// link in its path now leads elsewhere. A directory that is polled has its files looked at as often.
const recheckEvery = 500 * time.Millisecond

// Source reads objects from the files of a directory and follows its changes. It is a source.Source.
// The package comment has the rules.
type Source struct {
	// Dir is the directory. It must exist when Run starts; while it is away later, the last state stays.
	Dir string
	// ServiceProxyName chooses among Services as that of source.Cluster does.
	ServiceProxyName string
	// Warn, if not nil, is told of every fault once: a *FileError, or an error about the directory. Calls are
	// made one at a time, never during a call to the sink.
	Warn func(error)

	newWatcher func() (*fsnotify.Watcher, error) // for tests; nil: fsnotify.NewWatcher
}

var _ source.Source = Source{}

// Run feeds sink from the directory until ctx ends. It fails if the directory cannot be read or watched at
// the start, or if ServiceProxyName cannot be a label.
func (m Source) Run(ctx context.Context, sink source.Sink) error {
	if err := source.ProxyName(m.ServiceProxyName).Validate(); err != nil {
		return err
	}
	newWatcher := fsnotify.NewWatcher
	if m.newWatcher != nil {
		newWatcher = m.newWatcher
	}
	dir, err := watchDirectory(m.Dir, newWatcher, m.warn)
	if err != nil {
		return fmt.Errorf("start to follow manifests: %w", err)
	}
	defer dir.close()
	r := newReader(m.Dir, source.ProxyName(m.ServiceProxyName), m.warn)
	if err := r.loadAll(); err != nil {
		return err
	}
	first(objectsOf(r.changes()), sink)
	return m.follow(ctx, dir, r, sink)
}

// first tells the sink of the first objects. Nobody but the sink keeps them.
func first(all Objects, sink source.Sink) {
	sink.ReplaceNodes(all.Nodes)
	sink.ReplaceServiceCIDRs(all.ServiceCIDRs)
	sink.ReplaceServices(all.Services)
	sink.ReplaceEndpointSlices(all.EndpointSlices)
}

func (m Source) warn(err error) {
	if m.Warn != nil {
		m.Warn(err)
	}
}

// Objects are objects of all kinds, each list sorted by namespace and name.
type Objects struct {
	Services       []*corev1.Service
	EndpointSlices []*discoveryv1.EndpointSlice
	Nodes          []*corev1.Node
	ServiceCIDRs   []*networkingv1.ServiceCIDR
}

// Read reads the directory once, without Warn. The objects are those that Run would start with; errs are all the faults
// that it would tell of.
func (m Source) Read() (all Objects, errs []error) {
	if err := source.ProxyName(m.ServiceProxyName).Validate(); err != nil {
		return Objects{}, []error{err}
	}
	r := newReader(m.Dir, source.ProxyName(m.ServiceProxyName), func(err error) { errs = append(errs, err) })
	if err := r.loadAll(); err != nil {
		return Objects{}, []error{err}
	}
	all = objectsOf(r.changes())
	return all, errs
}

// follow applies changes of the directory until ctx ends.
func (m Source) follow(ctx context.Context, dir *directory, r *reader, sink source.Sink) error {
	recheck := time.NewTicker(recheckEvery)
	defer recheck.Stop()
	settle := time.NewTimer(0)
	settle.Stop()
	var todo batch
	for {
		events, errs := dir.events()
		select {
		case <-ctx.Done():
			return nil
		case event := <-events:
			todo.add(dir, event)
			settle.Reset(todo.delay())
		case err := <-errs:
			if !errors.Is(err, fsnotify.ErrEventOverflow) {
				m.warn(fmt.Errorf("watch manifest directory %q: %w", m.Dir, err))
			}
			todo.addAll()
			settle.Reset(todo.delay())
		case <-recheck.C:
			// A directory that has just come back is filled by somebody right now: let it settle.
			if moved := m.recheck(dir); dir.poll() || moved {
				todo.addAll()
				settle.Reset(todo.delay())
			}
		case <-settle.C:
			todo = m.apply(dir, r, todo, sink)
			if todo.all {
				settle.Reset(todo.delay())
			}
		}
	}
}

// recheck says whether the directory is another one than before. It warns when the directory goes away.
func (m Source) recheck(dir *directory) bool {
	moved, err := dir.refresh()
	if err != nil {
		m.warn(fmt.Errorf("%w; its last state stays until it is back", err))
	}
	return moved
}

// apply reads what changed and tells the sink the differences. It returns what remains to be done.
func (m Source) apply(dir *directory, r *reader, todo batch, sink source.Sink) (rest batch) {
	if m.recheck(dir) {
		todo.addAll()
	}
	var err error
	if todo.all {
		err = r.loadAll()
	} else {
		err = r.load(todo.sorted())
	}
	switch {
	case err == nil:
	case m.recheck(dir): // it was exchanged meanwhile
		rest.addAll()
	case !dir.gone():
		m.warn(err)
	}
	for _, c := range r.changes() {
		c.send(sink)
	}
	return rest
}
