// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/gdamore/tcell/v3"
	"github.com/spf13/cobra"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/ask"
	"github.com/nftproxy/nftproxy/cmd/nftproxy/top"
	"github.com/nftproxy/nftproxy/conntrack"
	"github.com/nftproxy/nftproxy/rules"
)

type topOptions struct {
	worldOptions
	top.Choice
	interval time.Duration // that each table is about
	once     bool
	plain    bool
	manyRows bool // no number of them was given
	output   string
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

On a terminal all Services can be scrolled, sorted, filtered and unfolded with keys, which
the last line names. Elsewhere, and with --once, --plain or -o json, tables are written.

Names come from the nftproxy that runs here, which is asked at its socket, or from the
source that is given or that it has, and are followed as Services come and go; without
one, from the kernel, which knows those Services that have a chain of their own.`,
		Example: `  nftproxy top --once
  nftproxy top --once --sort open --endpoints --filter default/
  nftproxy top --once -o json
  nftproxy top --once --interval 5s -n 20 --manifests /etc/nftproxy/services`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.run(cmd.Context(), nil, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	fs := cmd.Flags()
	o.add(fs)
	fs.DurationVar(&o.interval, "interval", 2*time.Second, "`time` that each table is about")
	fs.BoolVar(&o.once, "once", false, "write one table and end")
	fs.BoolVar(&o.plain, "plain", false, "write tables one after the other on a terminal, too")
	fs.IntVarP(&o.Rows, "rows", "n", 10, "`number` of Services to show; on a terminal all by default")
	fs.StringVar(&o.Sort, "sort", "new", "`key` by which Services are sorted: "+oneOf(top.Keys()))
	fs.StringVar(&o.Filter, "filter", "", "only Services whose name or address has this `text`")
	fs.BoolVar(&o.Endpoints, "endpoints", false, "show each endpoint on a line of its own")
	fs.StringVarP(&o.output, "output", "o", "text", "`format`: text or json")
	completeWith(cmd, "sort", top.Keys()...)
	completeWith(cmd, "output", "text", "json")
	return untilUnheard(askingCommand(cmd, &o.wantOptions, func(cmd *cobra.Command, _ []string) (bool, error) {
		o.manyRows = !cmd.Flags().Changed("rows")
		client, err := o.runsHere(cmd)
		if client == nil || err != nil {
			return false, err
		}
		return true, o.run(cmd.Context(), client, cmd.OutOrStdout(), cmd.ErrOrStderr())
	}))
}

func (o *topOptions) check() error {
	switch {
	case o.interval <= 0:
		return fmt.Errorf("--interval: %s is not above 0", o.interval)
	case o.Rows < 1:
		return fmt.Errorf("--rows: %d is below 1", o.Rows)
	case !slices.Contains(top.Keys(), o.Sort):
		return fmt.Errorf("--sort: %q is none of %s", o.Sort, oneOf(top.Keys()))
	}
	return textOrJSON(o.output)
}

// run asks an nftproxy for the names of Services; nil: another source has them.
func (o *topOptions) run(ctx context.Context, client *ask.Client, stdout, stderr io.Writer) error {
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
	names, err := o.namesFor(ctx, client, "", stderr)
	if err != nil {
		return err
	}
	flows, err := conntrack.Open()
	if err != nil {
		return err
	}
	defer func() { _ = flows.Close() }()
	if isTerminal(stderr) && o.once {
		fmt.Fprintf(stderr, "counting new connections for %s\n", o.interval)
	}
	l := topLoop{interval: o.interval, flows: flows, counts: top.NewCounts(func(f rules.Frontend) (string, bool) {
		name, served := names.at(f)
		return nameText(name, served), served
	})}
	silent := func() string { return silentText(config.Rules.Table) }
	if o.onTerminal(stdout) {
		if terminal, err := top.OpenTerminal(); err == nil { // else it can do too little
			defer terminal.Close()
			return l.onTerminal(ctx, terminal, o.screen(), silent)
		}
	}
	return l.run(ctx, func(t top.Table) (bool, error) {
		t = t.Choose(&o.Choice)
		if o.output == "json" {
			return o.once, writeJSON(stdout, t)
		}
		_, err := io.WriteString(stdout, t.Text(o.Endpoints)+silent())
		return o.once, err
	}, nil, nil)
}

// onTerminal says whether somebody sees the output and can press keys.
func (o *topOptions) onTerminal(stdout io.Writer) bool {
	name := os.Getenv("TERM")
	return !o.once && !o.plain && o.output == "text" && isTerminal(stdout) && isTerminal(os.Stdin) && name != "" && name != "dumb"
}

// screen returns what is shown on a terminal at first.
func (o *topOptions) screen() *top.Screen {
	s := &top.Screen{Choice: o.Choice, Interval: o.interval}
	if o.manyRows {
		s.Rows = 0
	}
	return s
}

// topLoop counts connections, and takes a table in each interval.
type topLoop struct {
	interval time.Duration
	flows    *conntrack.Conn
	counts   *top.Counts
}

// onTerminal shows tables on a terminal until its user ends it.
func (l *topLoop) onTerminal(ctx context.Context, terminal *top.Terminal, screen *top.Screen, note func() string) error {
	terminal.Draw(screen)
	return l.run(ctx, func(t top.Table) (bool, error) {
		screen.Show(t, note())
		terminal.Draw(screen)
		return false, nil
	}, terminal.Events(), func(e tcell.Event) bool {
		key, gone := terminal.Key(e)
		if gone || key != "" && screen.Key(key) {
			return true
		}
		terminal.Draw(screen)
		return false
	})
}

// run calls show for each table, and heed for what a terminal tells, until ctx ends or one of them says that this is the end.
func (l *topLoop) run(ctx context.Context, show func(top.Table) (end bool, err error), events <-chan tcell.Event, heed func(tcell.Event) (end bool)) error {
	watched := make(chan error, 1)
	go func() { watched <- conntrack.WatchNew(ctx, l.counts.Add, l.counts.Lose) }() // lasts as long as ctx
	tick := time.NewTicker(l.interval)
	defer tick.Stop()
	for {
		select {
		case err := <-watched:
			return err
		case e := <-events:
			if heed(e) {
				return nil
			}
			continue
		case <-tick.C:
		}
		if err := l.flows.EachOpen(ctx, l.counts.AddOpen); err != nil {
			if ctx.Err() != nil {
				return nil // it ended meanwhile
			}
			return err
		}
		if end, err := show(l.counts.Take(l.interval.Seconds())); end || err != nil {
			return err
		}
	}
}
