// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"io"
	"sync"
	"time"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/explain"
	"github.com/nftproxy/nftproxy/proxier"
	"github.com/nftproxy/nftproxy/rules"
)

// serviceNames names Services as they are now.
type serviceNames interface {
	// at names the service port that is served at a frontend; false: none is. A name that is not known is empty.
	at(rules.Frontend) (rules.ServicePortName, bool)
}

// liveNames returns the names of Services as they come and go, until ctx ends: from the source that is given or that the nftproxy
// which runs here has, else from the kernel.
func (o *worldOptions) liveNames(ctx context.Context, stderr io.Writer) (serviceNames, error) {
	if o.namesFromKernel(); o.kernel {
		k := &kernelNames{load: func() (*explain.World, error) {
			world, _, err := o.world(ctx, io.Discard)
			return world, err
		}}
		world, _, err := o.world(ctx, stderr)
		k.world, k.loaded = world, time.Now()
		return k, err
	}
	m, err := o.inMemory(ctx, true, nil, stderr)
	if err != nil {
		return nil, err
	}
	defer progress(stderr, "reading Services and EndpointSlices from "+o.sourceName())()
	synced := make(chan error, 2)
	go func() { // lasts as long as ctx, which ends with the command
		synced <- m.run(ctx, func(ctx context.Context) error {
			err := o.firstLists(ctx, m.Proxier)
			if err == nil && ctx.Err() == nil {
				synced <- nil
				<-ctx.Done()
			}
			return err
		})
	}()
	return proxierNames{m.Proxier}, <-synced
}

// proxierNames knows the names from a source.
type proxierNames struct{ *proxier.Proxier }

func (n proxierNames) at(f rules.Frontend) (rules.ServicePortName, bool) { return n.ServedAt(f) }

// kernelNames knows the names of chains that the kernel has.
type kernelNames struct {
	load func() (*explain.World, error)

	mu     sync.Mutex
	world  *explain.World
	loaded time.Time
}

// reread is how old what was read from the kernel may be.
const reread = time.Second

func (k *kernelNames) at(f rules.Frontend) (rules.ServicePortName, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if time.Since(k.loaded) > reread {
		if world, err := k.load(); err == nil { // else the tables have gone, or are being changed
			k.world = world
		}
		k.loaded = time.Now()
	}
	return worldNames{k.world}.at(f)
}

// worldNames knows the names of Services as they were.
type worldNames struct{ *explain.World }

func (w worldNames) at(f rules.Frontend) (rules.ServicePortName, bool) {
	p := w.PortAt(f)
	if p == nil {
		return rules.ServicePortName{}, false
	}
	return p.Name, true
}

// nameText names the service port, as far as it is known.
func nameText(name rules.ServicePortName, served bool) string {
	switch {
	case !served:
		return "no service port"
	case name.Name == "":
		return "a Service"
	}
	return name.String()
}
