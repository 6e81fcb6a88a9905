// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/ask"
	"github.com/nftproxy/nftproxy/cmd/nftproxy/page"
	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/wire"
)

type uiOptions struct {
	wantOptions
	address string
}

func uiCommand(version string) *cobra.Command {
	o := &uiOptions{wantOptions: wantOptions{source: sourceOptions{version: version}}}
	cmd := &cobra.Command{
		Use:   "ui",
		Short: "Serve a page to look at Services and their connections on this node",
		Long: `Serve a page for a browser on this machine: the Services that this node serves, a picture
of where connections to each of them go and why, its rules and what was changed last, the
node's health, and new connections as they come. It asks the nftproxy that runs here, at
its socket, as root or as the user that it runs as. It changes nothing.

The page is at an address of loopback, which it prints. That has a secret in it: whoever
has the whole address may look, as long as this command runs.`,
		Example: `  nftproxy ui
  nftproxy ui --address 127.0.0.1:8099`,
		Args: cobra.NoArgs,
	}
	fs := cmd.Flags()
	fs.StringVar(&o.address, "address", "127.0.0.1:0", "`address` of loopback, and port, where the page is; port 0: any")
	fs.StringVar(&o.source.socket, "socket", ask.DefaultSocket, "Unix socket, a `path`, at which the nftproxy that runs is asked; TABLE stands for the tables' name")
	fs.StringVar(&o.source.proxyName, "service-proxy-name", "", "`name` of the nftproxy to ask, if it was started with one")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := o.run(cmd); err != nil {
			return &exitError{exitFault, err}
		}
		return nil
	}
	return cmd
}

func (o *uiOptions) run(cmd *cobra.Command) error {
	client, err := ask.Dial(cmd.Context(), o.socket(), tableName(o.source.proxyName))
	if err != nil {
		return fmt.Errorf("no nftproxy answers here: %w: is it running on this node, and are you root?", err)
	}
	v, err := client.Version(cmd.Context())
	if err != nil {
		return err
	}
	trace := func(ctx context.Context, service, at string, w io.Writer) error {
		return traceFor(ctx, client, v.Table, service, at, w)
	}
	p, err := page.Listen(o.address, o.source.version, []page.Node{{Name: v.Node, API: ask.Transport(o.socket()), Trace: trace}})
	if err != nil {
		return err
	}
	if _, err = fmt.Fprintln(cmd.OutOrStdout(), p.URL()); err != nil {
		return err
	}
	fmt.Fprintln(cmd.ErrOrStderr(), "Open this address in a browser on this machine; Ctrl-C ends it.")
	return p.Serve(cmd.Context())
}

// traceFor follows connections to a Service, at an address of it alone if that is not empty, and writes an object for each, as
// `nftproxy trace -o json` does. It asks the nftproxy that runs for the Service's frontends.
func traceFor(ctx context.Context, client *ask.Client, table, service, at string, w io.Writer) error {
	var filter wire.TraceFilter
	if at != "" {
		to, err := netip.ParseAddrPort(at)
		if err != nil {
			return fmt.Errorf("%q is not ADDRESS:PORT", at)
		}
		filter.ToPort = to.Port()
		if filter.To, err = to.Addr().Unmap().Prefix(to.Addr().Unmap().BitLen()); err != nil {
			return err
		}
	}
	namespace, name, err := parseService(service)
	if err != nil {
		return err
	}
	names := &askedNames{load: func() (ask.Service, error) { return client.Service(ctx, namespace, name) }}
	if err = names.reload(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	k, err := openTraced(filter)
	if err != nil {
		return err
	}
	defer k.close()
	out := storyWriter{teller: k.teller(table, names.at), out: endsWith{w, cancel}, json: true, service: service, showRules: true}
	if err := k.follow(ctx, out.write); err != nil {
		return err
	}
	return out.err
}

// endsWith is a writer whose end ends what writes.
type endsWith struct {
	io.Writer
	end func()
}

// Write implements io.Writer.
func (e endsWith) Write(b []byte) (int, error) {
	n, err := e.Writer.Write(b)
	if err != nil {
		e.end()
	}
	return n, err
}

// askedNames knows the frontends of one Service, as the nftproxy that runs tells them.
type askedNames struct {
	load func() (ask.Service, error)

	mu        sync.Mutex
	loaded    time.Time
	frontends map[rules.Frontend]rules.ServicePortName
}

// reload asks again. A NodePort is at every address of this node.
func (n *askedNames) reload() error {
	n.loaded = time.Now()
	s, err := n.load()
	if err != nil {
		return err
	}
	local, _ := net.InterfaceAddrs() // without them only NodePorts are missing
	all := map[rules.Frontend]rules.ServicePortName{}
	for i := range s.Ports {
		p := &s.Ports[i]
		protocol, perr := rules.ParseProtocol(p.Protocol)
		if perr != nil {
			continue
		}
		name := rules.ServicePortName{Namespace: s.Namespace, Name: s.Name, Port: p.Port}
		for _, f := range p.Frontends {
			if at, aerr := netip.ParseAddrPort(f); aerr == nil {
				all[rules.FrontendAt(at, protocol)] = name
			} else if port, nerr := strconv.ParseUint(f, 10, 16); nerr == nil {
				for _, a := range local {
					if p, aerr := netip.ParsePrefix(a.String()); aerr == nil {
						all[rules.FrontendAt(netip.AddrPortFrom(p.Addr(), uint16(port)), protocol)] = name
					}
				}
			}
		}
	}
	n.frontends = all
	return nil
}

func (n *askedNames) at(f rules.Frontend) (rules.ServicePortName, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if time.Since(n.loaded) > reread {
		_ = n.reload() // else it has gone, or is asked again soon
	}
	name, ok := n.frontends[f]
	return name, ok
}
