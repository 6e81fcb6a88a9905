// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
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

// snapshot runs a proxier on a kernel in memory until it has programmed the source's first lists: the same code that programs a
// node. It knows the addresses of the node as 'nftproxy run' does, if it runs on it: with live it surely does. seen, if not nil,
// keeps more of what the source tells.
func (o *wantOptions) snapshot(ctx context.Context, live bool, seen *explain.Observer, stderr io.Writer) (proxier.Snapshot, error) {
	config, err := o.proxierConfig()
	if err != nil {
		return proxier.Snapshot{}, err
	}
	warn := func(err error) { tell(stderr, err) }
	here, err := o.watchHere(ctx, config.Cluster.NodeName, live, warn)
	if err != nil {
		return proxier.Snapshot{}, err
	}
	if here.Watcher != nil {
		defer here.Watcher.Close()
		config.Cluster.Addresses = here
	}
	o.source.apiServers = &apiserver.Addresses{}
	src, err := o.open(config.Cluster.NodeName, warn)
	if err != nil {
		return proxier.Snapshot{}, err
	}
	config.Kernel = &memoryKernel{state: rules.State{Name: config.Rules.Table}}
	if seen != nil {
		config.Events = seen
	}
	p := proxier.New(config)
	if live {
		useEjected(config.Rules.Table, p)
	}
	o.source.apiServers.Follow(p.SetAPIServers)
	var sink source.Sink = p
	if config.Cluster.Addresses != nil && !live {
		here.Sink, sink = sink, here
	}
	if seen != nil {
		seen.Sink, sink = sink, seen
	}
	defer progress(stderr, "reading Services and EndpointSlices from "+o.sourceName())()
	if err := o.runUntilSynced(ctx, p, func(ctx context.Context) error { return src.Run(ctx, sink) }); err != nil {
		return proxier.Snapshot{}, err
	}
	return p.Snapshot(), nil
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

// runUntilSynced runs a proxier and its source until the proxier has programmed the first lists.
func (o *wantOptions) runUntilSynced(ctx context.Context, p *proxier.Proxier, runSource func(context.Context) error) error {
	limited, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	err := runTogether(limited, p.Run, runSource, func(ctx context.Context) error {
		select {
		case <-p.Synced():
			return nil
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return fmt.Errorf("get Services and EndpointSlices from %s: not all came in %v: is it reachable?", o.sourceName(), listTimeout)
			}
			return nil // the source says why, or the user knows
		}
	})
	if err == nil {
		err = ctx.Err()
	}
	return err
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
		err = fmt.Errorf("this node has no table named %s: is nftproxy running here?", table)
	}
	return state, err
}
