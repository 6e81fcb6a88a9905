// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/nftproxy/nftproxy/proxier"
	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/kernel"
)

type dumpOptions struct {
	source sourceOptions
	rules  rulesOptions
	node   nodeOptions
	kernel bool
}

func dumpCommand(version string) *cobra.Command {
	o := dumpOptions{source: sourceOptions{version: version}}
	cmd := &cobra.Command{
		Use:   "dump",
		Short: "Print the rules as nft text",
		Long: `Print the rules that 'nftproxy run' would program for a directory of manifests or
a cluster, or, with --kernel, those that this node has. From manifests and from a
cluster it needs no privileges.`,
		Example: `  nftproxy dump --manifests /etc/nftproxy/services
  nftproxy dump --kernel`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.run(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	o.source.add(cmd.Flags())
	o.rules.add(cmd.Flags())
	o.node.add(cmd.Flags())
	cmd.Flags().BoolVar(&o.kernel, "kernel", false, "print what this node's kernel holds")
	return cmd
}

func (o *dumpOptions) run(ctx context.Context, stdout, stderr io.Writer) error {
	config, err := proxierConfig(&o.source, &o.rules, &o.node)
	if err != nil {
		return err
	}
	var state rules.State
	if o.kernel {
		state, err = readKernel(config.Rules.Table)
	} else {
		state, err = o.desired(ctx, config, stderr)
	}
	if err != nil {
		return err
	}
	return state.WriteText(stdout)
}

func readKernel(table string) (rules.State, error) {
	k, err := kernel.Open()
	if err != nil {
		return rules.State{}, err
	}
	defer func() { _ = k.Close() }()
	state, err := k.Read(table)
	if err == nil && state.Tables == [2]*rules.Table{} {
		err = fmt.Errorf("this node has no table named %s: is nftproxy running here?", table)
	}
	return state, err
}

// desired runs a proxier on a kernel in memory until it has programmed the
// source's first lists: the same code that programs a node.
func (o *dumpOptions) desired(ctx context.Context, config proxier.Config, stderr io.Writer) (rules.State, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	src, _, err := o.source.open(config.NodeName, func(err error) { fmt.Fprintln(stderr, "nftproxy:", err) })
	if err != nil {
		return rules.State{}, err
	}
	memory := &memoryKernel{state: rules.State{Name: config.Rules.Table}}
	config.Kernel = memory
	p := proxier.New(config)
	err = runTogether(ctx, p.Run,
		func(ctx context.Context) error { return src.Run(ctx, p) },
		func(ctx context.Context) error {
			select {
			case <-p.Synced():
				return nil
			case <-ctx.Done():
				return fmt.Errorf("get the lists of Services and EndpointSlices: %w", context.Cause(ctx))
			}
		})
	return memory.state, err
}

// memoryKernel holds tables in memory. Only the proxier's goroutine uses it, and
// after that has ended, its owner.
type memoryKernel struct{ state rules.State }

func (m *memoryKernel) Read(string) (rules.State, error) { return m.state, nil }

func (m *memoryKernel) Apply(tx rules.Tx) error {
	state, err := m.state.Apply(tx)
	if err == nil {
		m.state = state
	}
	return err
}
