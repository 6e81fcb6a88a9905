// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"

	"github.com/spf13/cobra"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/ask"
	"github.com/nftproxy/nftproxy/cmd/nftproxy/page"
	"github.com/nftproxy/nftproxy/rules/wire"
)

type uiOptions struct {
	source  sourceOptions
	address string
	netns   string // where that address is
}

func uiCommand(version string) *cobra.Command {
	o := &uiOptions{source: sourceOptions{version: version}}
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
	fs.StringVar(&o.address, pageAddress, "127.0.0.1:0", "`address` of loopback, and port, where the page is; port 0: any")
	fs.StringVar(&o.netns, pageNetns, "", "`file` of the network namespace whose loopback address that is, such as /proc/1/ns/net (default: this one)")
	o.source.addSocket(fs)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return o.run(cmd) }
	return cmd
}

// The flags that say where the page is.
const (
	pageAddress = "address"
	pageNetns   = "page-netns"
)

func (o *uiOptions) run(cmd *cobra.Command) error {
	ctx := cmd.Context()
	client, err := o.source.dial(ctx, cmd.ErrOrStderr())
	var elsewhere *ask.Elsewhere
	if errors.As(err, &elsewhere) && o.source.socket != ask.DefaultSocket && elsewhere.Table == tableName(o.source.proxyName) {
		// Its socket was named: it may be looked at from here, but its connections are in another namespace's kernel.
		fmt.Fprintln(cmd.ErrOrStderr(), "nftproxy: who answers serves another network namespace: connections cannot be followed from here")
		node := page.Node{Name: elsewhere.Node, API: ask.Transport(elsewhere.Path)}
		return servePage(cmd, o.address, o.netns, o.source.version, []page.Node{node})
	}
	if err != nil {
		return err
	}
	v, err := client.Version(ctx)
	if err != nil {
		return err
	}
	trace := func(ctx context.Context, service, at string, w io.Writer) error {
		return traceFor(ctx, client, v.Table, service, at, w)
	}
	return servePage(cmd, o.address, o.netns, o.source.version, []page.Node{{Name: v.Node, API: client.Transport(), Trace: trace}})
}

// servePage serves the page of some nodes at an address in a network namespace, this one if none is named, and says where it is.
func servePage(cmd *cobra.Command, address, netns, version string, nodes []page.Node) error {
	var p *page.Page
	err := inNetns(netns, func() (err error) {
		p, err = page.Listen(address, version, nodes)
		return err
	})
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
		if err = onlyTo(&filter, to); err != nil {
			return err
		}
	}
	names, err := askedService(ctx, client, service)
	if err != nil {
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
