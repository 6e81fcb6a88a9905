// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/apiserver"
	"github.com/nftproxy/nftproxy/cmd/nftproxy/plugin"
)

// elsewhere runs a command in the pods of nodes.
type elsewhere struct {
	overrides clientcmd.ConfigOverrides
	node      string
	all       bool
	spaced    bool     // the command is about Services of a namespace
	here      []string // flags that are not for the command there
	kubectls  []string // those of them that choose a cluster and a user, but for --context and --kubeconfig
}

// there is how nodes are reached.
type there struct {
	plugin.Cluster
	namespace string // that of kubectl's context, or of --namespace
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
	if given := fs.Lookup("namespace"); o.spaced && given != nil && given.Changed {
		namespace = given.Value.String()
	}
	config.WarningHandler = rest.NoWarnings{}
	config.QPS, config.Burst = 50, 100 // one request for each node
	client, err := newClient(config)
	return &there{plugin.Cluster{Config: config, Client: client}, namespace}, err
}

// command is the command line there.
func (o *elsewhere) command(cmd *cobra.Command, args []string, t *there) []string {
	out := append([]string{cmd.Name()}, o.flags(cmd)...)
	if o.spaced {
		out = append(out, "--namespace="+t.namespace)
	}
	return append(append(out, "--"), args...)
}

// flags are those that are for the command there.
func (o *elsewhere) flags(cmd *cobra.Command) (out []string) {
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
	return out
}

// with adds flags to a command line.
func with(words []string, flags ...string) []string { return slices.Insert(words, 1, flags...) }

// without takes a flag out of a command line.
func without(words []string, flag string) []string {
	return slices.DeleteFunc(words, func(w string) bool { return strings.HasPrefix(w, "--"+flag+"=") })
}

// ended is how a command that has run elsewhere ends here.
func ended(ctx context.Context, code int, err error) error {
	switch {
	case ctx.Err() != nil: // its user has ended it
		return nil //nolint:nilerr // see above
	case err != nil || code == 0:
		return err
	}
	return &exitError{code: code}
}

// changed says whether a flag is given, with another value than it has anyway.
func changed(cmd *cobra.Command, flag string) bool {
	f := cmd.Flags().Lookup(flag)
	return f != nil && f.Value.String() != f.DefValue
}

// goesOn says whether a command goes on until its user ends it. That of a trace is a while, too.
func goesOn(cmd *cobra.Command) bool {
	switch cmd.Name() {
	case "trace":
		return true
	case "top":
		return !changed(cmd, "once")
	case "get":
		return changed(cmd, "watch")
	}
	return false
}
