// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/ask"
	"github.com/nftproxy/nftproxy/cmd/nftproxy/serve"
	"github.com/nftproxy/nftproxy/conntrack"
	"github.com/nftproxy/nftproxy/proxier"
	"github.com/nftproxy/nftproxy/proxier/nodeaddr"
	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/inspect"
	"github.com/nftproxy/nftproxy/rules/kernel"
)

// socket is the path at which the nftproxy that writes these tables is asked; empty: there is none.
func (o *wantOptions) socket() string {
	return ask.Path(o.source.socket, tableName(o.source.proxyName))
}

// absolute returns a path from the root, for others; empty: there is none.
func absolute(path string) string {
	if path == "" {
		return ""
	}
	if whole, err := filepath.Abs(path); err == nil {
		return whole
	}
	return ""
}

// socketDirectory makes the directory of the socket, before rights are given up; empty: there is none.
func (o *wantOptions) socketDirectory() string {
	if o.socket() == "" {
		return ""
	}
	dir := filepath.Dir(o.socket())
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // the socket is for root alone, whoever may see it
		return "" // who serves says so
	}
	return dir
}

// answers returns what answers at the socket while a run writes the tables. That it cannot ends nothing.
func (o *runOptions) answers(c *proxier.Config, p *proxier.Proxier, counter *serve.Connections, healthy func() bool) func(context.Context) error {
	return func(ctx context.Context) error {
		select {
		case <-o.turn.Held():
		case <-ctx.Done():
			return nil
		}
		path := o.socket()
		if path == "" {
			<-ctx.Done()
			return nil
		}
		d := &ask.Daemon{Version: o.source.version, Node: c.Cluster.NodeName, Table: c.Rules.Table, Proxier: p, Scan: scanner(c.Rules.Table), Healthy: healthy}
		d.Flows, d.Clients = eachFlow, eachClient(c.Rules.Table)
		if counter != nil {
			d.Counts = counter.Totals
		}
		d.Local = func() []netip.Addr { return c.Cluster.Addresses.Addrs() }
		if w, ok := c.Cluster.Addresses.(*nodeaddr.Watcher); ok {
			d.InterfaceTo = w.InterfaceTo
		}
		ready := func() { c.Logger.V(1).Info("Commands can ask this nftproxy", "socket", path) }
		if err := d.Serve(ctx, path, ready); err != nil {
			c.Logger.Info("Commands cannot ask this nftproxy", "reason", oneLine(err).Error())
		}
		<-ctx.Done()
		return nil
	}
}

// scanner reads some things of a table, or everything if none is named, each time with a socket of its own: that of who programs is not held up.
func scanner(table string) func([]rules.Thing, rules.Parts) error {
	return func(things []rules.Thing, to rules.Parts) error {
		k, err := kernel.Open()
		if err != nil {
			return err
		}
		defer func() { _ = k.Close() }()
		return k.Scan(table, things, to)
	}
}

// eachFlow calls fn for each open connection whose destination was translated.
func eachFlow(ctx context.Context, fn func(conntrack.Flow)) error {
	c, err := conntrack.Open()
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	return c.EachOpen(ctx, fn)
}

// eachClient lists the clients that session affinity remembers.
func eachClient(table string) func(func(rules.ServicePortName) bool, func(ask.StickyEntry)) error {
	return func(wanted func(rules.ServicePortName) bool, fn func(ask.StickyEntry)) error {
		i, err := inspect.Open()
		if err != nil {
			return err
		}
		defer func() { _ = i.Close() }()
		return i.Clients(table, wanted, func(c inspect.Client) {
			fn(ask.StickyEntry{Of: c.Of, Local: c.Local, Client: c.Addr, To: c.To, Milliseconds: c.Expires})
		})
	}
}

// runsHere returns a client of the nftproxy that runs here; nil: none answers, or the command line asks for what it may not have:
// another source, or an option of its own. It fails where it is not known which nftproxy is meant.
func (o *wantOptions) runsHere(cmd *cobra.Command) (*ask.Client, error) {
	_, theirs := runFlags()
	other := false
	cmd.Flags().Visit(func(f *pflag.Flag) {
		other = other || theirs.Lookup(f.Name) != nil && f.Name != "service-proxy-name" && f.Name != "socket"
	})
	if other || o.source.socket == "" {
		return nil, nil
	}
	c, err := o.source.find(cmd.Context(), cmd.ErrOrStderr())
	if errors.As(err, new(*ask.Several)) {
		return nil, err
	}
	return c, nil // if there is none, there may be another way to the answer
}
