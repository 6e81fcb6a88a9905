// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/nftproxy/nftproxy/conntrack"
)

type topOptions struct {
	worldOptions
	topChoice
	once   bool
	output string
}

func topCommand(version string) *cobra.Command {
	o := topOptions{worldOptions: newWorldOptions(version)}
	cmd := &cobra.Command{
		Use:   "top",
		Short: "Show Services by their new connections, live",
		Long: `Show the Services with the most new connections on this node, how many are open, how
many bytes those had where the kernel counts them (sysctl net.netfilter.nf_conntrack_acct),
and how new connections spread over endpoints, from the kernel's connection tracking.
Connections that are refused or dropped are not among them.

Names come from the source that is given or that the nftproxy which runs here has, and
are followed as Services come and go; without one, from the kernel, which knows those
Services that have a chain of their own.`,
		Example: `  nftproxy top --once
  nftproxy top --once --sort open --endpoints --filter default/
  nftproxy top --once -o json
  nftproxy top --once --interval 5s -n 20 --manifests /etc/nftproxy/services`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.run(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	fs := cmd.Flags()
	o.add(fs)
	fs.DurationVar(&o.interval, "interval", 2*time.Second, "`time` that each table is about")
	fs.BoolVar(&o.once, "once", false, "write one table and end")
	fs.IntVarP(&o.rows, "rows", "n", 10, "`number` of Services to show")
	fs.StringVar(&o.sort, "sort", "new", "`key` by which Services are sorted: "+oneOf(topKeys()))
	fs.StringVar(&o.filter, "filter", "", "only Services whose name or address has this `text`")
	fs.BoolVar(&o.endpoints, "endpoints", false, "show each endpoint on a line of its own")
	fs.StringVarP(&o.output, "output", "o", "text", "`format`: text or json")
	completeWith(cmd, "sort", topKeys()...)
	completeWith(cmd, "output", "text", "json")
	return lookingCommand(cmd, &o.wantOptions)
}

func (o *topOptions) check() error {
	switch {
	case o.interval <= 0:
		return fmt.Errorf("--interval: %s is not above 0", o.interval)
	case o.rows < 1:
		return fmt.Errorf("--rows: %d is below 1", o.rows)
	case !slices.Contains(topKeys(), o.sort):
		return fmt.Errorf("--sort: %q is none of %s", o.sort, oneOf(topKeys()))
	}
	return textOrJSON(o.output)
}

func (o *topOptions) run(ctx context.Context, stdout, stderr io.Writer) error {
	if err := o.check(); err != nil {
		return err
	}
	config, err := o.proxierConfig()
	if err != nil {
		return err
	}
	if err = hasTables(config.Rules.Table); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	names, err := o.liveNames(ctx, stderr)
	if err != nil {
		return err
	}
	flows, err := conntrack.Open()
	if err != nil {
		return err
	}
	defer func() { _ = flows.Close() }()
	c := newCounts(names)
	watched := make(chan error, 1)
	go func() { watched <- conntrack.WatchNew(ctx, c.add, c.lose) }()
	tick := time.NewTicker(o.interval)
	defer tick.Stop()
	if isTerminal(stderr) && o.once {
		fmt.Fprintf(stderr, "counting new connections for %s\n", o.interval)
	}
	for {
		select {
		case err := <-watched:
			return err
		case <-tick.C:
		}
		if err := flows.EachOpen(ctx, c.addOpen); err != nil {
			if ctx.Err() != nil {
				return nil // it ended meanwhile
			}
			return err
		}
		if err := o.write(stdout, c.take(&o.topChoice), config.Rules.Table); err != nil || o.once {
			return err
		}
	}
}

// write writes a table; on a terminal from the top of an empty screen, if others follow.
func (o *topOptions) write(stdout io.Writer, table topTable, rulesTable string) error {
	if o.output == "json" {
		return writeJSON(stdout, table)
	}
	text := table.text(o.endpoints) + silentText(rulesTable)
	if isTerminal(stdout) && !o.once {
		text = "\x1b[H\x1b[2J" + text
	}
	_, err := io.WriteString(stdout, text)
	return err
}
