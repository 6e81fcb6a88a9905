// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/explain"
	"github.com/nftproxy/nftproxy/cmd/nftproxy/plugin"
)

// guessing are the commands of the plugin that can answer from the cluster's objects alone.
func guessing(command string) bool { return command == "explain" || command == "dump" }

const pluginPageHelp = `Serve a page for a browser on this machine: the Services that --node NODE serves, or each of
--all-nodes, one of which is chosen on the page; where connections to each of them go and
why, its rules and what was changed last, the node's health, and new connections as they
come. It asks through commands in nftproxy's pods, and changes nothing.

The page is at an address of loopback, which it prints. That has a secret in it: whoever
has the whole address may look, as long as this command runs.`

// asPlugin makes the commands that look those of kubectl's plugin: they run in the pods of nodes.
func asPlugin(root *cobra.Command) {
	for _, c := range root.Commands() {
		switch c.Name() {
		case "run", "cleanup", "ready", "compare", relayName: // for the node itself
			c.Hidden = true
		case "version":
		case "ui":
			c.Long = pluginPageHelp
			fallthrough
		default:
			newElsewhere(c)
		}
	}
	root.Long = `See what the nftproxy of each node does with connections to Services. A command runs in the pod of
nftproxy's DaemonSet on --node NODE, or on --all-nodes, as 'kubectl exec' would run it.`
}

func newElsewhere(cmd *cobra.Command) {
	o := &elsewhere{here: []string{"node", "all-nodes", "context", "kubeconfig", pageAddress, pageNetns}}
	fs := cmd.Flags()
	fs.StringVar(&o.node, "node", "", "run the command in nftproxy's pod on this node, `NAME`")
	fs.BoolVar(&o.all, "all-nodes", false, "run the command in nftproxy's pods on all nodes, and say where the answers differ")
	if fs.Lookup("kubeconfig") == nil {
		fs.String("kubeconfig", "", "`file` to use instead of kubectl's kubeconfig")
	}
	o.spaced = fs.Lookup("namespace") != nil
	theirs := pflag.NewFlagSet("", pflag.ContinueOnError)
	clientcmd.BindOverrideFlags(&o.overrides, theirs, clientcmd.RecommendedConfigOverrideFlags(""))
	theirs.VisitAll(func(f *pflag.Flag) {
		if fs.Lookup(f.Name) != nil {
			return
		}
		if f.Shorthand != "" && fs.ShorthandLookup(f.Shorthand) != nil {
			f.Shorthand = ""
		}
		fs.AddFlag(f)
		if o.here = append(o.here, f.Name); f.Name != "context" && f.Name != "namespace" {
			o.kubectls = append(o.kubectls, f.Name)
		}
	})
	run := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		switch {
		case o.node != "" && o.all:
			return usageError(cmd, errors.New("--node and --all-nodes do not go together"), "")
		case o.node != "" || o.all || fromPod(cmd) != "":
			return o.run(cmd, args, run)
		case !guessing(cmd.Name()):
			return usageError(cmd, errors.New("whose answer? Give --node NODE or --all-nodes"), "")
		}
		return o.guess(cmd, args, run, "no --node NODE or --all-nodes is given")
	}
}

// guess has the command answer from the cluster's objects.
func (o *elsewhere) guess(cmd *cobra.Command, args []string, run func(*cobra.Command, []string) error, why string) error {
	for _, name := range o.kubectls {
		if cmd.Flags().Changed(name) {
			return fmt.Errorf("--%s goes with --node or --all-nodes", name)
		}
	}
	if o.spaced && !cmd.Flags().Changed("namespace") {
		if t, err := o.connect(cmd.Flags()); err == nil { // who answers says what is wrong with a kubeconfig
			if err := cmd.Flags().Set("namespace", t.namespace); err != nil {
				return err
			}
		}
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "nftproxy: this is a guess, made here from the cluster's objects, with the options that are given here: %s\n", why)
	return run(cmd, args)
}

// run runs the command in pods.
func (o *elsewhere) run(cmd *cobra.Command, args []string, run func(*cobra.Command, []string) error) error {
	fs := cmd.Flags()
	if err := o.check(cmd); err != nil {
		return err
	}
	t, err := o.connect(fs)
	if err != nil {
		return err
	}
	ctx := cmd.Context()
	switch {
	case cmd.Name() == "ui":
		return o.page(cmd, t)
	case fromPod(cmd) != "":
		return o.probeFromPod(cmd, args, t)
	case o.all:
		return o.onAll(ctx, cmd, args, t)
	}
	pod, err := plugin.PodOn(ctx, t.Client, o.node)
	if errors.Is(err, plugin.ErrNoPod) && guessing(cmd.Name()) {
		if f := fs.Lookup("hostname-override"); !f.Changed {
			if serr := f.Value.Set(o.node); serr != nil {
				return serr
			}
			f.Changed = true
		}
		return o.guess(cmd, args, run, err.Error())
	}
	if err != nil {
		return err
	}
	words, streams := o.command(cmd, args, t), plugin.Streams{Out: cmd.OutOrStdout(), Err: cmd.ErrOrStderr()}
	if screen := screenOf(cmd); screen != nil {
		code, rerr := screen.run(func(s plugin.Streams) (int, error) { return t.Run(ctx, pod, words, s) })
		return ended(ctx, code, rerr)
	}
	if goesOn(cmd) {
		streams.In, words = plugin.Heard(ctx), with(words, "--"+untilEOF)
	}
	code, err := t.Run(ctx, pod, words, streams)
	return ended(ctx, code, err)
}

// check refuses what needs files or somebody at the node.
func (o *elsewhere) check(cmd *cobra.Command) error {
	if changed(cmd, fromPodFlag) && changed(cmd, "netns") {
		return errors.New("--from-pod and --netns do not go together: give one")
	}
	for _, name := range []string{"manifests", "config", "master", "netns", "fix"} {
		if changed(cmd, name) {
			return fmt.Errorf("--%s does not go with --node and --all-nodes: run the command in the pod", name)
		}
	}
	switch {
	case o.all && changed(cmd, fromPodFlag):
		return errors.New("--from-pod and --all-nodes do not go together: a pod is on one node")
	case o.all && cmd.Name() == "top" && goesOn(cmd):
		return errors.New("top shows one node after the other: give --node NODE, or --once")
	}
	return nil
}

// onAll runs the command on all nodes.
func (o *elsewhere) onAll(ctx context.Context, cmd *cobra.Command, args []string, t *there) error {
	pods, err := allPods(cmd, t)
	if err != nil {
		return err
	}
	format := cmd.Flags().Lookup("output")
	asJSON := format != nil && format.Value.String() == "json"
	words, w := o.command(cmd, args, t), cmd.OutOrStdout()
	if goesOn(cmd) {
		return followAll(ctx, cmd, pods, asJSON, func(ctx context.Context, p plugin.Pod, s plugin.Streams) (int, error) {
			return t.Run(ctx, p, with(slices.Clone(words), "--"+untilEOF), s)
		})
	}
	inWords := cmd.Name() == "explain" && format.Value.String() == "text" && !changed(cmd, "probe")
	if inWords {
		words = with(without(words, "output"), "--output=json")
	}
	answers := plugin.Ask(ctx, pods, func(ctx context.Context, p plugin.Pod, stdout, stderr io.Writer) (int, error) {
		return t.Run(ctx, p, words, plugin.Streams{Out: stdout, Err: stderr})
	})
	switch {
	case inWords:
		c := coloursFor(w)
		err = plugin.WriteExplained(w, answers, explain.Style{Title: c.bold, Good: c.green, Bad: c.red, Rules: changed(cmd, "rules")})
	case asJSON:
		err = plugin.WriteJSON(w, answers)
	default:
		err = plugin.WriteText(w, answers)
	}
	if code := plugin.Code(answers); err == nil && code > 0 {
		return &exitError{code: code}
	}
	return err
}
