// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/page"
	"github.com/nftproxy/nftproxy/cmd/nftproxy/plugin"
	"github.com/nftproxy/nftproxy/printable"
)

// page serves the page of one node or of all, here.
func (o *elsewhere) page(cmd *cobra.Command, t *there) error {
	pods := []plugin.Pod{{Node: o.node}}
	var err error
	if o.all {
		pods, err = allPods(cmd, t)
	} else {
		pods[0], err = plugin.PodOn(cmd.Context(), t.Client, o.node)
	}
	if err != nil {
		return err
	}
	var nodes []page.Node
	for _, p := range pods {
		nodes = append(nodes, t.pageNode(p.Node, o.flags(cmd)))
	}
	return servePage(cmd, cmd.Flags().Lookup(pageAddress).Value.String(), cmd.Flags().Lookup(pageNetns).Value.String(), cmd.Root().Version, nodes)
}

// pageNode returns a node as the page asks it. flags say which nftproxy there is asked.
func (t *there) pageNode(node string, flags []string) page.Node {
	run := func(ctx context.Context, s plugin.Streams, words ...string) (int, error) {
		pod, err := plugin.PodOn(ctx, t.Client, node) // that of now: an update replaces them
		if err != nil {
			return 0, err
		}
		return t.Run(ctx, pod, with(words, flags...), s)
	}
	var api http.RoundTripper = plugin.Transport(func(ctx context.Context, s plugin.Streams) (int, error) { return run(ctx, s, relayName) })
	return page.Node{Name: node, API: api, Trace: func(ctx context.Context, service, at string, w io.Writer) error {
		words := []string{"trace", "--to=" + service, "--output=json", "--rules", "--" + untilEOF}
		if at != "" {
			words = append(words, "--at="+at)
		}
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		var said plugin.Tail
		code, err := run(ctx, plugin.Streams{In: plugin.Heard(ctx), Out: endsWith{w, cancel}, Err: &said}, words...)
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil && code != 0:
			err = errors.New(said.Text())
		}
		return err
	}}
}

// allPods returns nftproxy's pods of all nodes, and names those that have none.
func allPods(cmd *cobra.Command, t *there) ([]plugin.Pod, error) {
	pods, bare, err := plugin.Pods(cmd.Context(), t.Client)
	if err != nil {
		return nil, err
	}
	if len(pods) == 0 {
		return nil, fmt.Errorf("no pod of nftproxy's DaemonSet runs anywhere (%s)", plugin.Label)
	}
	if len(bare) > 0 {
		tell(cmd.ErrOrStderr(), fmt.Errorf("no pod of nftproxy's DaemonSet runs on %s: not asked", printable.Line(strings.Join(bare, ", "))))
	}
	return pods, nil
}
