// SPDX-License-Identifier: Apache-2.0

package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/ask"
	"github.com/nftproxy/nftproxy/cmd/nftproxy/explain"
	"github.com/nftproxy/nftproxy/printable"
	"github.com/nftproxy/nftproxy/proxier/source"
)

type explainOptions struct {
	worldOptions
	from      []string
	namespace string // of a name alone
	output    string
	showRules bool
	probing
}

func explainCommand(version string) *cobra.Command {
	o := explainOptions{worldOptions: newWorldOptions(version)}
	cmd := &cobra.Command{
		Use:   "explain SERVICE[:PORT]|ADDRESS[:PORT/PROTOCOL]",
		Short: "Say what becomes of connections to a Service, and why",
		Long: `Say in plain words what becomes of new connections to a Service, one of its ports or
an address: which policies apply, which endpoints count and why the others do not,
what a client sees and why, whether it is masqueraded, and whether this node's
kernel holds just that.

A Service is NAMESPACE/NAME, NAME or svc/NAME with --namespace, or a name in DNS such as
web.demo or web.demo.svc.cluster.local. An address without a port means all ports there.

Where 'nftproxy run' runs, it answers itself, at its socket. Where it cannot be asked, or an
option of its own is given, its source and options count, but for those that are given. It
has to be root's or this user's, and this very program with the same files; a credential
plugin of its kubeconfig is not run. With a source give all options that 'nftproxy run' has.

The answer comes from the rules that 'nftproxy run' programs, for the node that
--hostname-override names. With --kernel it comes from what the kernel holds alone:
then it says nothing of policies, and nothing of endpoints that do not count.

--from chooses the client: an address, node (this node itself), pod, outside, the
name of a Node, or a pod's NAMESPACE/NAME. Without it each kind of client is looked
at.

--probe sends one real connection, follows it through the tables of all programs, and says
what became of it: from here, from the network namespace of --netns, or from that of a pod
of this node. A pod's network namespace is found by its address, for which this process has
to see the node's processes or /run/netns, and may have to be root there.`,
		Example: `  nftproxy explain default/web
  nftproxy explain svc/web -n default
  nftproxy explain web.default.svc.cluster.local:http
  nftproxy explain 10.96.0.10
  nftproxy explain default/web --manifests /etc/nftproxy/services
  nftproxy explain default/web:http --manifests /etc/nftproxy/services --from 10.244.1.7
  nftproxy explain 10.96.0.10:80/tcp --manifests /etc/nftproxy/services --rules
  nftproxy explain default/web --kubeconfig /etc/kubernetes/proxy.conf --hostname-override here
  nftproxy explain 10.96.0.10:80/tcp --probe
  nftproxy explain default/web:http --probe --from-pod 10.244.1.7
  nftproxy explain 10.96.0.10:80/tcp --kernel`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.run(cmd.Context(), args[0], cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
		ValidArgsFunction: o.complete,
	}
	fs := cmd.Flags()
	o.add(fs)
	fs.BoolVar(&o.kernel, "kernel", false, "explain what this node's kernel holds, without another source")
	fs.StringSliceVar(&o.from, "from", nil, "`clients`: addresses, node, pod, outside, names of Nodes, or pods' NAMESPACE/NAME (default: one of each kind)")
	fs.StringVarP(&o.namespace, "namespace", "n", "default", "`namespace` of a Service that is given by its name alone")
	fs.StringVarP(&o.output, "output", "o", "text", "`format`: text or json")
	fs.BoolVar(&o.showRules, "rules", false, "show the rules that connections meet, too")
	o.addProbe(fs)
	completeWith(cmd, "output", "text", "json")
	completeWith(cmd, "from", "node", "pod", "outside")
	return untilUnheard(askingCommand(cmd, &o.wantOptions, o.ask))
}

func (o *explainOptions) run(ctx context.Context, text string, stdout, stderr io.Writer) error {
	if err := textOrJSON(o.output); err != nil {
		return err
	}
	if err := o.probing.check(); err != nil {
		return err
	}
	target, err := explain.ParseTarget(text, o.namespace)
	if err != nil {
		return err
	}
	world, seen, err := o.world(ctx, stderr)
	if err != nil {
		return err
	}
	from := o.from
	if o.fromPod != "" {
		pod, perr := o.search().look(ctx, world.Node.Name, seen)
		if perr != nil {
			return fmt.Errorf("--from-pod: %w", perr)
		}
		from = o.clientsOf(pod)
	}
	var clients []explain.Client
	for _, from := range from {
		c, cerr := o.client(ctx, world, seen, from)
		if cerr != nil {
			return fmt.Errorf("--from: %w", cerr)
		}
		clients = append(clients, c)
	}
	e, err := world.Explain(target, clients)
	if err != nil {
		if why := seen.Unaddressed(target.Namespace, target.Name); why != "" {
			return fmt.Errorf("service %s/%s %s: there is nothing to program for it", target.Namespace, target.Name, why)
		}
		return cmp.Or(o.otherProxy(ctx, &target), err)
	}
	var probed *probe
	if o.probes {
		if probed, err = o.probe(ctx, world.Config.Table, worldNames{world}, e, stderr); err != nil {
			return err
		}
	}
	return o.write(stdout, e, probed)
}

// search is how the pod of --from-pod is looked for.
func (o *explainOptions) search() *podSearch {
	return &podSearch{&o.worldOptions, o.fromPod, o.namespace}
}

// clientsOf remembers a pod's addresses for the probe, and returns the clients that are explained: the pod, but for those of --from.
func (o *explainOptions) clientsOf(p *aPod) []string {
	o.addrs = p.addrs
	if len(o.from) > 0 {
		return o.from
	}
	return p.clients()
}

// otherProxy says that a Service is left to another proxy, where the API server tells; else nothing.
func (o *explainOptions) otherProxy(ctx context.Context, t *explain.Target) error {
	if t.Name == "" || o.kernel || o.source.manifests != "" {
		return nil
	}
	client, err := o.wantOptions.client()
	if err != nil {
		return nil // there is no API server to ask
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	svc, err := client.Services(t.Namespace).Get(ctx, t.Name, metav1.GetOptions{})
	if err != nil {
		return nil // it is not there, or may not be read
	}
	name, labelled := svc.Labels[source.LabelServiceProxyName]
	switch {
	case labelled && name != o.source.proxyName:
		return fmt.Errorf("service %s/%s is left to another proxy, %q: its label %s says so", t.Namespace, t.Name, printable.Word(name), source.LabelServiceProxyName)
	case !labelled && o.source.proxyName != "":
		return fmt.Errorf("service %s/%s is left to another proxy: it has no label %s", t.Namespace, t.Name, source.LabelServiceProxyName)
	}
	return nil
}

// ask has the nftproxy that runs here explain, and says whether it did. What it does not know is looked for elsewhere.
func (o *explainOptions) ask(cmd *cobra.Command, args []string) (bool, error) {
	if o.kernel || o.probing.check() != nil || o.output != "text" && o.output != "json" {
		return false, nil //nolint:nilerr // run says what is wrong
	}
	client, err := o.runsHere(cmd)
	if client == nil || err != nil {
		return false, err
	}
	target, err := explain.ParseTarget(args[0], o.namespace)
	if err != nil {
		return true, err
	}
	from := o.from
	if o.fromPod != "" {
		pod, perr := o.search().ask(cmd, client)
		if perr != nil {
			return true, fmt.Errorf("--from-pod: %w", perr)
		}
		from = o.clientsOf(pod)
	}
	e, err := client.Explain(cmd.Context(), target.Service(), from)
	var refused *ask.Refused
	switch {
	case errors.As(err, &refused) && refused.Status == http.StatusGone:
		return true, err
	case errors.As(err, &refused) && refused.Status == http.StatusNotFound && target.Name != "": // it has no such Service
		if o.resolve(cmd.Flags(), "/", func(string) {}) == nil {
			err = cmp.Or(o.otherProxy(cmd.Context(), &target), err)
		}
		return true, err
	case err != nil:
		return false, nil //nolint:nilerr // there is another way to the answer
	}
	var probed *probe
	if o.probes {
		if probed, err = o.askAndProbe(cmd, client, e); err != nil {
			return true, err
		}
	}
	return true, o.write(cmd.OutOrStdout(), e, probed)
}

// askAndProbe sends a connection to what the nftproxy that runs has explained.
func (o *explainOptions) askAndProbe(cmd *cobra.Command, client *ask.Client, e *explain.Explanation) (*probe, error) {
	ctx := cmd.Context()
	names := newAskedNames(client)
	if len(e.Ports) > 0 && e.Ports[0].Service != "" {
		var err error
		if names, err = askedService(ctx, client, e.Ports[0].Service); err != nil {
			return nil, err
		}
	}
	return o.probe(ctx, tableName(o.source.proxyName), names, e, cmd.ErrOrStderr())
}

func (o *explainOptions) write(stdout io.Writer, e *explain.Explanation, probed *probe) error {
	if o.output == "json" {
		return writeJSON(stdout, explainedProbe{e, probed})
	}
	c := coloursFor(stdout)
	err := e.WriteText(stdout, explain.Style{Title: c.bold, Good: c.green, Bad: c.red, Rules: o.showRules})
	if err == nil && probed != nil {
		_, err = io.WriteString(stdout, probed.text(c))
	}
	return err
}

// complete completes the names of Services.
func (o *explainOptions) complete(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), 3*time.Second)
	defer cancel()
	var out []string
	add := func(namespace, name string) {
		if name = namespace + "/" + name; printable.Word(name) == name { // a shell would take it
			out = append(out, name)
		}
	}
	if client, err := o.runsHere(cmd); client != nil && err == nil {
		list, err := client.Services(ctx, ask.Choice{})
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		for i := range list {
			add(list[i].Namespace, list[i].Name)
		}
		return out, cobra.ShellCompDirectiveNoFileComp
	}
	snapshot, err := o.snapshot(ctx, false, nil, io.Discard)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	for _, p := range snapshot.Ports {
		add(p.Name.Namespace, p.Name.Name)
	}
	return slices.Compact(out), cobra.ShellCompDirectiveNoFileComp
}
