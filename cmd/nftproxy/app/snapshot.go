// SPDX-License-Identifier: Apache-2.0

package app

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/apiserver"
	"github.com/nftproxy/nftproxy/cmd/nftproxy/explain"
	"github.com/nftproxy/nftproxy/proxier"
	"github.com/nftproxy/nftproxy/proxier/nodeaddr"
	"github.com/nftproxy/nftproxy/proxier/source"
	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/kernel"
)

// sourceName says where Services come from, for messages.
func (o *wantOptions) sourceName() string {
	if o.source.manifests != "" {
		return o.source.manifests
	}
	return "the cluster"
}

// listTimeout is how long a source may take for its first lists.
const listTimeout = time.Minute

// snapshot returns what a proxier has programmed from the source's first lists. seen, if not nil, keeps more of what the source
// tells.
func (o *wantOptions) snapshot(ctx context.Context, live bool, seen *explain.Observer, stderr io.Writer) (proxier.Snapshot, error) {
	m, err := o.inMemory(ctx, live, seen, stderr)
	if err != nil {
		return proxier.Snapshot{}, err
	}
	if live {
		useEjected(m.table, m.Proxier)
	}
	defer progress(stderr, "reading Services and EndpointSlices from "+o.sourceName())()
	if err := m.run(ctx, func(ctx context.Context) error { return o.firstLists(ctx, m.Proxier) }); err != nil {
		return proxier.Snapshot{}, err
	}
	return m.Snapshot(), nil
}

// memoryProxier is a proxier on a kernel in memory: the same code that programs a node.
type memoryProxier struct {
	*proxier.Proxier
	table  string
	source func(context.Context) error // runs the source
	here   *machine
}

// inMemory returns a proxier that is ready to run. It knows the addresses of the node as 'nftproxy run' does, if it runs on it:
// with live it surely does.
func (o *wantOptions) inMemory(ctx context.Context, live bool, seen *explain.Observer, stderr io.Writer) (*memoryProxier, error) {
	config, err := o.proxierConfig()
	if err != nil {
		return nil, err
	}
	var one sync.Mutex // each resource's list may fail, all at a time
	warn := func(err error) {
		one.Lock()
		defer one.Unlock()
		tell(stderr, err)
	}
	m := &memoryProxier{table: config.Rules.Table}
	if m.here, err = o.watchHere(ctx, config.Cluster.NodeName, live, warn); err != nil {
		return nil, err
	}
	if m.here.Watcher != nil {
		config.Cluster.Addresses = m.here
	}
	o.source.apiServers = &apiserver.Addresses{}
	src, err := o.open(config.Cluster.NodeName, warn)
	if err != nil {
		m.close()
		return nil, err
	}
	config.Kernel = &memoryKernel{state: rules.State{Name: config.Rules.Table}}
	if seen != nil {
		config.Events = seen
	}
	m.Proxier = proxier.New(config)
	o.source.apiServers.Follow(m.SetAPIServers)
	var sink source.Sink = m.Proxier
	if config.Cluster.Addresses != nil && !live {
		m.here.Sink, sink = sink, m.here
	}
	if seen != nil {
		seen.Sink, sink = sink, seen
	}
	m.source = func(ctx context.Context) error { return src.Run(ctx, sink) }
	return m, nil
}

func (m *memoryProxier) close() {
	if m.here.Watcher != nil {
		m.here.Watcher.Close()
	}
}

// run runs the proxier and its source until the first of them, or until, ends.
func (m *memoryProxier) run(ctx context.Context, until func(context.Context) error) error {
	defer m.close()
	return cmp.Or(runTogether(ctx, m.Run, m.source, until), ctx.Err())
}

// watchHere returns this machine, whose addresses are the node's if it is the node. Without live its Watcher may be nil: then the
// addresses are not known.
func (o *wantOptions) watchHere(ctx context.Context, nodeName string, live bool, warn func(error)) (*machine, error) {
	here := &machine{node: nodeName}
	here.elsewhere.Store(!live && !o.isHere())
	watcher, err := nodeaddr.Watch(ctx, warn)
	switch {
	case err == nil:
		here.Watcher = watcher
	case live, ctx.Err() != nil:
		return nil, err
	case !here.elsewhere.Load() && runtime.GOOS == "linux":
		warn(err)
	}
	return here, nil
}

// firstLists waits until the proxier has programmed the source's first lists, or ctx ends.
func (o *wantOptions) firstLists(ctx context.Context, p *proxier.Proxier) error {
	late := time.NewTimer(listTimeout)
	defer late.Stop()
	select {
	case <-p.Synced():
	case <-ctx.Done(): // the source says why, or the user knows
	case <-late.C:
		return fmt.Errorf("get Services and EndpointSlices from %s: not all came in %v: is it reachable?", o.sourceName(), listTimeout)
	}
	return nil
}

// memoryKernel holds tables in memory. It is for one goroutine at a time: the proxier's while Run lasts.
type memoryKernel struct{ state rules.State }

func (m *memoryKernel) Read(string) (rules.State, error) { return m.state, nil }

func (m *memoryKernel) Scan(_ string, things []rules.Thing, to rules.Parts) error {
	m.state.Scan(things, to)
	return nil
}

func (m *memoryKernel) Apply(tx rules.Tx) error {
	state, err := m.state.Apply(tx)
	if err == nil {
		m.state = state
	}
	return err
}

// parseService reads NAMESPACE/NAME.
func parseService(text string) (namespace, name string, err error) {
	namespace, name, ok := strings.Cut(text, "/")
	if !ok || namespace == "" || name == "" || strings.Contains(name, "/") {
		return "", "", fmt.Errorf("%q is not a Service: give NAMESPACE/NAME, such as default/web", text)
	}
	return namespace, name, nil
}

// ownedBy returns the objects of a Service; none if there is no such Service.
func ownedBy(s *proxier.Snapshot, namespace, name string) []rules.Owned {
	var out []rules.Owned
	for i := range s.Ports {
		if p := &s.Ports[i]; p.Name.Namespace == namespace && p.Name.Name == name {
			out = append(out, rules.Owned{Owner: p.Owner(), Objects: p.Objects})
		}
	}
	return out
}

// readKernel reads this node's tables.
func readKernel(table string) (rules.State, error) {
	k, err := kernel.Open()
	if err != nil {
		return rules.State{}, err
	}
	defer func() { _ = k.Close() }()
	state, err := k.ReadListing(table)
	if err == nil && state.Tables == [2]*rules.Table{} {
		err = noTable(table)
	}
	return state, err
}
