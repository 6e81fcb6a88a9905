// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/plugin"
)

// followAll writes what nodes say as they say it, until their user ends it.
func followAll(ctx context.Context, cmd *cobra.Command, pods []plugin.Pod, asJSON bool, run func(context.Context, plugin.Pod, plugin.Streams) (int, error)) error {
	if len(pods) > plugin.MostFollowed {
		return fmt.Errorf("%d nodes are more than %d that can be followed at once: give --node NODE", len(pods), plugin.MostFollowed)
	}
	answers := plugin.Follow(ctx, cmd.OutOrStdout(), pods, asJSON, func(ctx context.Context, p plugin.Pod, out, errs io.Writer) (int, error) {
		return run(ctx, p, plugin.Streams{In: plugin.Heard(ctx), Out: out, Err: errs})
	})
	if ctx.Err() != nil {
		return nil //nolint:nilerr // their user has ended it
	}
	err := plugin.WriteText(cmd.ErrOrStderr(), slices.DeleteFunc(slices.Clone(answers), func(a plugin.Answer) bool { return a.Err == nil && a.Code == 0 }))
	if code := plugin.Code(answers); err == nil && code > 0 {
		return &exitError{code: code}
	}
	return err
}
