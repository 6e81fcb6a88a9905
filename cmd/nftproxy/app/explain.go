// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/explain"
	"github.com/nftproxy/nftproxy/printable"
	"github.com/nftproxy/nftproxy/proxier"
	"github.com/nftproxy/nftproxy/proxier/nodeaddr"
	"github.com/nftproxy/nftproxy/proxier/source"
	"github.com/nftproxy/nftproxy/rules"
)

type explainOptions struct {
	wantOptions
	kernel    bool
	from      []string
	output    string
	showRules bool
}

func explainCommand(version string) *cobra.Command {
	o := explainOptions{wantOptions: wantOptions{source: sourceOptions{version: version}}}
	cmd := &cobra.Command{
		Use:   "explain NAMESPACE/NAME[:PORT]|ADDRESS:PORT/PROTOCOL",
		Short: "Say what becomes of connections to a Service, and why",
		Long: `Say in plain words what becomes of new connections to a Service, one of its ports or
an address: which policies apply, which endpoints count and why the others do not,
what a client sees and why, whether it is masqueraded, and whether this node's
kernel holds just that.

Where 'nftproxy run' runs, its source and options count, but for those that are given. It
has to be root's or this user's, and this very program with the same files; a credential
plugin of its kubeconfig is not run. With a source give all options that 'nftproxy run' has.

The answer comes from the rules that 'nftproxy run' programs, for the node that
--hostname-override names. With --kernel it comes from what the kernel holds alone:
then it says nothing of policies, and nothing of endpoints that do not count.

--from chooses the client: an address, node (this node itself), pod, outside, the
name of a Node, or a pod's NAMESPACE/NAME. Without it each kind of client is looked
at.`,
		Example: `  nftproxy explain default/web
  nftproxy explain default/web --manifests /etc/nftproxy/services
  nftproxy explain default/web:http --manifests /etc/nftproxy/services --from 10.244.1.7
  nftproxy explain 10.96.0.10:80/tcp --manifests /etc/nftproxy/services --rules
  nftproxy explain default/web --kubeconfig /etc/kubernetes/proxy.conf --hostname-override here
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
	fs.StringVarP(&o.output, "output", "o", "text", "`format`: text or json")
	fs.BoolVar(&o.showRules, "rules", false, "show the rules that connections meet, too")
	completeWith(cmd, "output", "text", "json")
	completeWith(cmd, "from", "node", "pod", "outside")
	return lookingCommand(cmd, &o.wantOptions)
}

func (o *explainOptions) run(ctx context.Context, text string, stdout, stderr io.Writer) error {
	if o.output != "text" && o.output != "json" {
		return fmt.Errorf("--output: %q is neither text nor json", o.output)
	}
	target, err := explain.ParseTarget(text)
	if err != nil {
		return err
	}
	seen := newSeen()
	world, err := o.world(ctx, seen, stderr)
	if err != nil {
		return err
	}
	var clients []explain.Client
	for _, from := range o.from {
		c, cerr := o.client(ctx, world, seen, from)
		if cerr != nil {
			return fmt.Errorf("--from: %w", cerr)
		}
		clients = append(clients, c)
	}
	e, err := world.Explain(target, clients)
	if err != nil {
		if why := seen.headless[target.Namespace+"/"+target.Name]; why != "" {
			return fmt.Errorf("service %s/%s %s: there is nothing to program for it", target.Namespace, target.Name, why)
		}
		return err
	}
	if o.output == "json" {
		return writeJSON(stdout, e)
	}
	c := coloursFor(stdout)
	return e.WriteText(stdout, explain.Style{Title: c.bold, Good: c.green, Bad: c.red, Rules: o.showRules})
}

// world gathers what explanations are made from.
func (o *explainOptions) world(ctx context.Context, seen *seen, stderr io.Writer) (*explain.World, error) {
	config, err := o.proxierConfig()
	if err != nil {
		return nil, err
	}
	var own []netip.Addr
	var interfaceTo func(netip.Addr) (string, error)
	if addresses, aerr := nodeaddr.Watch(ctx, nil); aerr == nil {
		defer addresses.Close()
		own, interfaceTo = addresses.Addrs(), addresses.InterfaceTo
	}
	if o.kernel {
		have, kerr := readKernel(config.Rules.Table)
		if kerr != nil {
			return nil, kerr
		}
		w := explain.FromKernel(have)
		w.Node.Name, w.Config.PodCIDRs, w.Config.PodInterface = config.Cluster.NodeName, config.Rules.PodCIDRs, config.Rules.PodInterface
		w.Local, w.InterfaceTo = append(w.Local, own...), interfaceTo
		return w, nil
	}
	w := &explain.World{Places: seen.places, Notes: seen.notes}
	have, err := readKernel(config.Rules.Table)
	if err != nil { // there is much to explain without it
		w.Problem = err.Error()
	} else {
		w.Have = &have
		w.Local, w.InterfaceTo = own, interfaceTo
	}
	w.Snapshot, err = o.snapshot(ctx, w.Have != nil, seen, stderr)
	if err == nil && o.source.manifests == "" && !seen.node {
		tell(stderr, fmt.Errorf("the cluster has no Node %s, so its zone and addresses are not known: name a Node with --hostname-override", config.Cluster.NodeName))
	}
	for _, a := range slices.Concat(w.Node.NodePortIPs, w.Node.IPs[:]) {
		if a.IsValid() && !slices.Contains(w.Local, a) {
			w.Local = append(w.Local, a)
		}
	}
	return w, err
}

// client returns the client that --from means.
func (o *explainOptions) client(ctx context.Context, w *explain.World, seen *seen, from string) (explain.Client, error) {
	switch from {
	case "node", w.Node.Name:
		return w.NodeClient(), nil
	case "outside":
		return w.OutsideClient(), nil
	case "pod":
		c, ok := w.PodClient()
		if !ok {
			return c, fmt.Errorf("nothing tells where pods are: give --cluster-cidr or another --detect-local-mode")
		}
		return c, nil
	}
	if a, err := netip.ParseAddr(from); err == nil {
		return w.ClientAt(a.Unmap()), nil
	}
	addrs := seen.pods[from]
	if len(addrs) == 0 {
		var err error
		if addrs, err = o.lookUp(ctx, from); err != nil {
			return explain.Client{}, err
		}
	}
	c := explain.Client{}
	for _, a := range addrs {
		one := w.ClientAt(a)
		for f, addr := range one.Addrs {
			if addr.IsValid() {
				c.Addrs[f], c.IsNode, c.Interface = addr, one.IsNode, one.Interface
			}
		}
	}
	c.Name = from
	return c, nil
}

// lookUp asks the API server for the addresses of a pod or a Node.
func (o *explainOptions) lookUp(ctx context.Context, from string) ([]netip.Addr, error) {
	namespace, name, isPod := strings.Cut(from, "/")
	what := "Node"
	if isPod {
		what = "pod"
	}
	if o.source.manifests != "" || o.kernel {
		return nil, fmt.Errorf("%s %s is not known here: give its address", what, from)
	}
	client, err := o.wantOptions.client()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var texts []string
	if isPod {
		pod, err := client.CoreV1().Pods(namespace).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return nil, fmt.Errorf("get pod %s: %w: give its address", from, err)
		}
		for _, ip := range pod.Status.PodIPs {
			texts = append(texts, ip.IP)
		}
	} else {
		node, err := client.CoreV1().Nodes().Get(ctx, from, metav1.GetOptions{})
		if err != nil {
			return nil, fmt.Errorf("get Node %s: %w: give its address", from, err)
		}
		for _, a := range node.Status.Addresses {
			texts = append(texts, a.Address)
		}
	}
	var out []netip.Addr
	for _, text := range texts {
		if a, err := netip.ParseAddr(text); err == nil {
			out = append(out, a.Unmap())
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%s %s has no address yet", what, from)
	}
	return out, nil
}

// complete completes the names of Services.
func (o *explainOptions) complete(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), 3*time.Second)
	defer cancel()
	snapshot, err := o.snapshot(ctx, false, nil, io.Discard)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var out []string
	for _, p := range snapshot.Ports {
		if name := p.Name.Namespace + "/" + p.Name.Name; printable.Word(name) == name { // a shell would take it
			out = append(out, name)
		}
	}
	return slices.Compact(out), cobra.ShellCompDirectiveNoFileComp
}

// seen passes on what a source tells, and keeps what explanations need besides.
type seen struct {
	source.Sink
	places   map[explain.Place][]explain.Details
	pods     map[string][]netip.Addr // by namespace/name
	headless map[string]string       // Services without a ClusterIP, and why
	notes    map[string][]string     // what of a Service is not served, and why
	node     bool                    // there is a Node of this node's name
}

func newSeen() *seen {
	return &seen{places: map[explain.Place][]explain.Details{}, pods: map[string][]netip.Addr{}, headless: map[string]string{}, notes: map[string][]string{}}
}

// ReplaceNodes keeps whether there is any: a cluster tells of this node's alone.
func (s *seen) ReplaceNodes(list []*corev1.Node) {
	s.node = len(list) > 0
	s.Sink.ReplaceNodes(list)
}

// ReplaceServices keeps which Services have no address.
func (s *seen) ReplaceServices(list []*corev1.Service) {
	for _, svc := range list {
		switch name := svc.Namespace + "/" + svc.Name; {
		case svc.Spec.Type == corev1.ServiceTypeExternalName:
			s.headless[name] = "is of type ExternalName, a name in DNS"
		case svc.Spec.ClusterIP == corev1.ClusterIPNone:
			s.headless[name] = "is headless, so that clients get its endpoints from DNS"
		case svc.Spec.ClusterIP == "":
			s.headless[name] = "has no ClusterIP yet"
		default:
			s.notes[name] = append(s.notes[name], loadBalancerNotes(svc)...)
		}
	}
	s.Sink.ReplaceServices(list)
}

// loadBalancerNotes says which of a Service's load balancers are not served.
func loadBalancerNotes(svc *corev1.Service) []string {
	var out []string
	for _, in := range svc.Status.LoadBalancer.Ingress {
		switch {
		case in.IP == "":
			out = append(out, fmt.Sprintf("load balancer %s is not served: it is a name, not an address", printable.Word(in.Hostname)))
		case ptr.Deref(in.IPMode, corev1.LoadBalancerIPModeVIP) != corev1.LoadBalancerIPModeVIP:
			out = append(out, fmt.Sprintf("load balancer %s is not served: its ipMode is %s, so connections must go through it", printable.Word(in.IP), printable.Word(string(*in.IPMode))))
		}
	}
	return out
}

// Warning keeps what of a Service cannot be served.
func (s *seen) Warning(about corev1.ObjectReference, reason, message string) {
	if reason == proxier.ReasonInvalid {
		name := about.Namespace + "/" + about.Name
		s.notes[name] = append(s.notes[name], strings.TrimPrefix(message, "service "+name+": "))
	}
}

// ReplaceEndpointSlices keeps where endpoints are.
func (s *seen) ReplaceEndpointSlices(list []*discoveryv1.EndpointSlice) {
	for _, es := range list {
		for i := range es.Endpoints {
			s.endpoint(es, &es.Endpoints[i])
		}
	}
	s.Sink.ReplaceEndpointSlices(list)
}

func (s *seen) endpoint(es *discoveryv1.EndpointSlice, e *discoveryv1.Endpoint) {
	if len(e.Addresses) == 0 {
		return
	}
	a, err := netip.ParseAddr(e.Addresses[0])
	if err != nil {
		return
	}
	a = a.Unmap()
	pod := ""
	if e.TargetRef != nil && e.TargetRef.Kind == "Pod" {
		pod = e.TargetRef.Name
		if name := es.Namespace + "/" + pod; !slices.Contains(s.pods[name], a) {
			s.pods[name] = append(s.pods[name], a)
		}
	}
	d := explain.NewDetails(es.Namespace, pod, ptr.Deref(e.NodeName, ""), ptr.Deref(e.Zone, ""))
	d.Ready, d.Serving, d.Terminating = ptr.Deref(e.Conditions.Ready, true), ptr.Deref(e.Conditions.Serving, true), ptr.Deref(e.Conditions.Terminating, false)
	for i := range es.Ports {
		port := &es.Ports[i]
		at := explain.Place{At: netip.AddrPortFrom(a, uint16(ptr.Deref(port.Port, 0))), //nolint:gosec // what is no port is not found, and not served
			Port: rules.ServicePortName{Namespace: es.Namespace, Name: es.Labels[discoveryv1.LabelServiceName], Port: ptr.Deref(port.Name, "")}}
		for _, protocol := range []rules.Protocol{rules.TCP, rules.UDP, rules.SCTP} {
			if strings.EqualFold(protocol.String(), string(ptr.Deref(port.Protocol, corev1.ProtocolTCP))) {
				at.Protocol = protocol
			}
		}
		s.places[at] = append(s.places[at], d)
	}
}
