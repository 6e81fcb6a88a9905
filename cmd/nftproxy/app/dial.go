// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/pflag"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/ask"
	"github.com/nftproxy/nftproxy/lock"
	"github.com/nftproxy/nftproxy/printable"
)

// addSocket adds the flags of commands that have no other source than the nftproxy that runs here.
func (o *sourceOptions) addSocket(fs *pflag.FlagSet) {
	fs.StringVar(&o.socket, "socket", ask.DefaultSocket, "Unix socket, a `path`, at which the nftproxy that runs is asked; TABLE stands for the tables' name")
	fs.StringVar(&o.proxyName, "service-proxy-name", "", "`name` of the nftproxy to ask, if it was started with one")
}

// dial returns a client of the nftproxy that runs here.
func (o *sourceOptions) dial(ctx context.Context, stderr io.Writer) (*ask.Client, error) {
	client, err := o.find(ctx, stderr)
	switch {
	case errors.As(err, new(*ask.Several)):
		return nil, err
	case err != nil:
		return nil, fmt.Errorf("no nftproxy answers here: %w: is it running on this node, and are you root?", err)
	}
	return client, nil
}

// find looks for the nftproxy that runs here: at the socket, at that of who writes the tables, and where other tables' names would
// have put it. If it is found there alone it is that which is meant: stderr is told.
func (o *sourceOptions) find(ctx context.Context, stderr io.Writer) (*ask.Client, error) {
	s := ask.Search{Socket: o.socket, Table: tableName(o.proxyName), AnyTable: o.proxyName == ""}
	if o.socket == ask.DefaultSocket {
		s.Holder = func(table string) string {
			status, err := lock.Look(table)
			if err != nil || status.Holder == nil {
				return ""
			}
			return status.Holder.Socket
		}
	}
	client, table, err := ask.Find(ctx, s)
	if err != nil {
		return nil, err
	}
	if table != s.Table {
		o.proxyName = proxyNameOf(table)
		fmt.Fprintf(stderr, "nftproxy: asking the only nftproxy that runs here, of --service-proxy-name %s\n", printable.Word(o.proxyName))
	}
	return client, nil
}
