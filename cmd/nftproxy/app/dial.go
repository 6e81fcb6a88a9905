// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"fmt"

	"github.com/spf13/pflag"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/ask"
)

// addSocket adds the flags of commands that have no other source than the nftproxy that runs here.
func (o *sourceOptions) addSocket(fs *pflag.FlagSet) {
	fs.StringVar(&o.socket, "socket", ask.DefaultSocket, "Unix socket, a `path`, at which the nftproxy that runs is asked; TABLE stands for the tables' name")
	fs.StringVar(&o.proxyName, "service-proxy-name", "", "`name` of the nftproxy to ask, if it was started with one")
}

// dial returns a client of the nftproxy that runs here.
func (o *sourceOptions) dial(ctx context.Context) (*ask.Client, error) {
	table := tableName(o.proxyName)
	client, err := ask.Dial(ctx, ask.Path(o.socket, table), table)
	if err != nil {
		return nil, fmt.Errorf("no nftproxy answers here: %w: is it running on this node, and are you root?", err)
	}
	return client, nil
}
