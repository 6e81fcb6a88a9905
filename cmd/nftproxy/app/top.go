// SPDX-License-Identifier: Apache-2.0

package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/explain"
	"github.com/nftproxy/nftproxy/conntrack"
	"github.com/nftproxy/nftproxy/rules"
)

type topOptions struct {
	worldOptions
	interval time.Duration
	once     bool
	rows     int
}

func topCommand(version string) *cobra.Command {
	o := topOptions{worldOptions: newWorldOptions(version)}
	cmd := &cobra.Command{
		Use:   "top",
		Short: "Show Services by their new connections, live",
		Long: `Show the Services with the most new connections on this node, and how these spread
over endpoints, from the kernel's connection tracking. Connections that are refused or
dropped are not among them.

Names come from the source that is given or that the nftproxy which runs here has;
without one, from the kernel, which knows those Services that have a chain of their own.`,
		Example: `  nftproxy top --once
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
	return lookingCommand(cmd, &o.wantOptions)
}

func (o *topOptions) run(ctx context.Context, stdout, stderr io.Writer) error {
	if o.interval <= 0 {
		return fmt.Errorf("--interval: %s is not above 0", o.interval)
	}
	o.namesFromKernel()
	world, _, err := o.world(ctx, stderr)
	if err != nil {
		return err
	}
	if world.Have == nil {
		return errors.New(world.Problem)
	}
	c := counts{world: world, services: map[rules.Frontend]*serviceCount{}, names: map[rules.Frontend]string{}}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
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
		text := c.table(o.rows, o.interval) + silentText(world.Config.Table)
		if isTerminal(stdout) && !o.once {
			text = "\x1b[H\x1b[2J" + text // from the top of an empty screen
		}
		if _, err := io.WriteString(stdout, text); err != nil {
			return err
		}
		if o.once {
			return nil
		}
	}
}

// counts counts new connections since the last table.
type counts struct {
	world *explain.World
	names map[rules.Frontend]string // found once; empty: no Service's

	mu       sync.Mutex
	services map[rules.Frontend]*serviceCount
	lost     bool
}

type serviceCount struct {
	frontend  rules.Frontend
	name      string
	total     int
	endpoints map[netip.AddrPort]int
}

func (c *counts) add(f conntrack.Flow) {
	if f.Reply.Src == f.Orig.Dst { // went where it was sent
		return
	}
	to := rules.FrontendAt(f.Orig.Dst, f.Protocol)
	name, known := c.names[to]
	if !known {
		if port := c.world.PortAt(to); port != nil {
			name = nameText(port.Name, true)
		}
		c.names[to] = name
	}
	if name == "" {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.services[to]
	if s == nil {
		s = &serviceCount{frontend: to, name: name, endpoints: map[netip.AddrPort]int{}}
		c.services[to] = s
	}
	s.total++
	s.endpoints[f.Reply.Src]++
}

func (c *counts) lose() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lost = true
}

// table returns what was counted and begins anew.
func (c *counts) table(rows int, interval time.Duration) string {
	c.mu.Lock()
	list := slices.Collect(maps.Values(c.services))
	lost := c.lost
	c.services, c.lost = map[rules.Frontend]*serviceCount{}, false
	c.mu.Unlock()
	slices.SortFunc(list, func(a, b *serviceCount) int {
		return cmp.Or(cmp.Compare(b.total, a.total), a.frontend.Compare(b.frontend))
	})
	var out strings.Builder
	w := tabwriter.NewWriter(&out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "SERVICE\tADDRESS\tNEW/S\tENDPOINTS")
	for _, s := range list[:min(rows, len(list))] {
		fmt.Fprintf(w, "%s\t%s\t%.1f\t%s\n", s.name, s.frontend, float64(s.total)/interval.Seconds(), s.shares())
	}
	_ = w.Flush() // to memory
	if more := len(list) - rows; more > 0 {
		fmt.Fprintf(&out, "and %d more\n", more)
	}
	if lost {
		fmt.Fprintln(&out, "There were more than could be counted.")
	}
	return out.String()
}

// shares lists the endpoints that got most.
func (s *serviceCount) shares() string {
	const most = 5
	all := slices.SortedFunc(maps.Keys(s.endpoints), func(a, b netip.AddrPort) int {
		return cmp.Or(cmp.Compare(s.endpoints[b], s.endpoints[a]), a.Compare(b))
	})
	var parts []string
	for _, e := range all[:min(most, len(all))] {
		parts = append(parts, fmt.Sprintf("%s %d%%", e, (100*s.endpoints[e]+s.total/2)/s.total))
	}
	if more := len(all) - most; more > 0 {
		parts = append(parts, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(parts, ", ")
}
