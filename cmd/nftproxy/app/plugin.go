// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/apiserver"
	"github.com/nftproxy/nftproxy/cmd/nftproxy/explain"
	"github.com/nftproxy/nftproxy/cmd/nftproxy/plugin"
	"github.com/nftproxy/nftproxy/printable"
	"github.com/nftproxy/nftproxy/proxier/apiclient"
)

// guessing are the commands of the plugin that can answer from the cluster's objects alone.
func guessing(command string) bool { return command == "explain" || command == "dump" }

// asPlugin makes the commands that look those of kubectl's plugin: they run in the pods of nodes.
func asPlugin(root *cobra.Command) {
	for _, c := range root.Commands() {
		switch c.Name() {
		case "run", "cleanup", "ready", "compare", "ui": // for the node itself
			c.Hidden = true
		case "version":
		default:
			newElsewhere(c)
		}
	}
	root.Long = `See what the nftproxy of each node does with connections to Services. A command runs in the pod of
nftproxy's DaemonSet on --node NODE, or on --all-nodes, as 'kubectl exec' would run it.`
}

// elsewhere runs a command in the pods of nodes.
type elsewhere struct {
	overrides clientcmd.ConfigOverrides
	node      string
	all       bool
	spaced    bool     // the command is about Services of a namespace
	here      []string // flags that are not for the command there
	kubectls  []string // those of them that choose a cluster and a user, but for --context and --kubeconfig
}

func newElsewhere(cmd *cobra.Command) {
	o := &elsewhere{here: []string{"node", "all-nodes", "context", "kubeconfig"}}
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
		case o.node != "" || o.all:
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

// there is how nodes are reached.
type there struct {
	config    *rest.Config
	client    *apiclient.Client
	namespace string // that of kubectl's context
}

func (o *elsewhere) connect(fs *pflag.FlagSet) (*there, error) {
	files := clientcmd.NewDefaultClientConfigLoadingRules()
	files.ExplicitPath = fs.Lookup("kubeconfig").Value.String()
	if err := apiserver.CheckKubeconfigs(files.GetLoadingPrecedence()...); err != nil {
		return nil, err
	}
	o.overrides.CurrentContext = fs.Lookup("context").Value.String()
	kubeconfig := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(files, &o.overrides)
	config, err := kubeconfig.ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("read kubectl's kubeconfig: %w", err)
	}
	namespace, _, err := kubeconfig.Namespace()
	if err != nil {
		return nil, fmt.Errorf("read kubectl's kubeconfig: %w", err)
	}
	config.WarningHandler = rest.NoWarnings{}
	config.QPS, config.Burst = 50, 100 // one request for each node
	client, err := newClient(config)
	return &there{config, client, namespace}, err
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
	if o.all {
		return o.onAll(ctx, cmd, args, t)
	}
	pod, err := plugin.PodOn(ctx, t.client, o.node)
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
	code, err := plugin.Run(ctx, t.config, t.client, pod, o.command(cmd, args, t), cmd.OutOrStdout(), cmd.ErrOrStderr())
	if err != nil || code == 0 {
		return err
	}
	return &exitError{code: code}
}

// check refuses what needs files or somebody at the node.
func (o *elsewhere) check(cmd *cobra.Command) error {
	for _, name := range []string{"manifests", "config", "master", "netns", "fix", "watch"} {
		if f := cmd.Flags().Lookup(name); f != nil && f.Changed {
			return fmt.Errorf("--%s does not go with --node and --all-nodes: run the command in the pod", name)
		}
	}
	endless := cmd.Name() == "trace" && !cmd.Flags().Changed("for") || cmd.Name() == "top" && !cmd.Flags().Changed("once")
	if endless && cmd.Name() == "trace" {
		return errors.New("trace goes on there when it is not heard any more: give --for TIME")
	} else if endless {
		return errors.New("top goes on there when it is not heard any more: give --once")
	}
	return nil
}

// command is the command line there.
func (o *elsewhere) command(cmd *cobra.Command, args []string, t *there) []string {
	out := []string{cmd.Name()}
	cmd.Flags().Visit(func(f *pflag.Flag) {
		if slices.Contains(o.here, f.Name) || f.Name == "namespace" {
			return
		}
		value := f.Value.String()
		if list, ok := f.Value.(pflag.SliceValue); ok {
			value = strings.Join(list.GetSlice(), ",")
		}
		out = append(out, "--"+f.Name+"="+value)
	})
	if o.spaced {
		namespace := t.namespace
		if given := cmd.Flags().Lookup("namespace"); given.Changed {
			namespace = given.Value.String()
		}
		out = append(out, "--namespace="+namespace)
	}
	return append(append(out, "--"), args...)
}

// onAll runs the command on all nodes.
func (o *elsewhere) onAll(ctx context.Context, cmd *cobra.Command, args []string, t *there) error {
	pods, without, err := plugin.Pods(ctx, t.client)
	if err != nil {
		return err
	}
	if len(pods) == 0 {
		return fmt.Errorf("no pod of nftproxy's DaemonSet runs anywhere (%s)", plugin.Label)
	}
	if len(without) > 0 {
		tell(cmd.ErrOrStderr(), fmt.Errorf("no pod of nftproxy's DaemonSet runs on %s: not asked", printable.Line(strings.Join(without, ", "))))
	}
	format := cmd.Flags().Lookup("output")
	words := o.command(cmd, args, t)
	inWords := cmd.Name() == "explain" && format.Value.String() == "text"
	if inWords {
		words = slices.DeleteFunc(words, func(w string) bool { return strings.HasPrefix(w, "--output=") })
		words = slices.Insert(words, 1, "--output=json")
	}
	answers := plugin.Ask(ctx, pods, func(ctx context.Context, p plugin.Pod, stdout, stderr io.Writer) (int, error) {
		return plugin.Run(ctx, t.config, t.client, p, words, stdout, stderr)
	})
	w := cmd.OutOrStdout()
	switch {
	case inWords:
		c := coloursFor(w)
		err = plugin.WriteExplained(w, answers, explain.Style{Title: c.bold, Good: c.green, Bad: c.red, Rules: cmd.Flags().Changed("rules")})
	case format != nil && format.Value.String() == "json":
		err = plugin.WriteJSON(w, answers)
	default:
		err = plugin.WriteText(w, answers)
	}
	if code := plugin.Code(answers); err == nil && code > 0 {
		return &exitError{code: code}
	}
	return err
}
