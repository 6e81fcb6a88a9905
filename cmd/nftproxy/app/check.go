// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/feature"
	"github.com/nftproxy/nftproxy/cmd/nftproxy/host"
	"github.com/nftproxy/nftproxy/cmd/nftproxy/kubeproxy"
	"github.com/nftproxy/nftproxy/cmd/nftproxy/sandbox"
	"github.com/nftproxy/nftproxy/cmd/nftproxy/trust"
	"github.com/nftproxy/nftproxy/printable"
	"github.com/nftproxy/nftproxy/proxier/nodeaddr"
	"github.com/nftproxy/nftproxy/proxier/source/manifests"
	"github.com/nftproxy/nftproxy/rules/inspect"
	"github.com/nftproxy/nftproxy/rules/kernel"
)

// exitFailed is the exit code of check when something failed.
const exitFailed = 1

type checkOptions struct {
	wantOptions
	root string // of /proc, for tests
}

func checkCommand(version string) *cobra.Command {
	o := checkOptions{wantOptions: wantOptions{source: sourceOptions{version: version}}, root: "/"}
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check whether this node is ready for nftproxy",
		Long: `Check this node: the kernel and each feature of nftables that is used, connection
tracking, forwarding, software that competes, and the source of Services with the
rights that it needs. One line each: ok, warning or failed, with what to do.

The exit code is 0 if nothing failed, 1 if something did. A table named
nftproxy-check is made and removed; nothing else is changed. Where 'nftproxy run' runs,
the rights that it has are shown.`,
		Example: `  nftproxy check --manifests /etc/nftproxy/services
  nftproxy check --kubeconfig /etc/kubernetes/proxy.conf`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context(), cmd.OutOrStdout()) },
	}
	o.add(cmd.Flags())
	return lookingCommand(cmd, &o.wantOptions)
}

// report writes lines and remembers the worst.
type report struct {
	w       io.Writer
	colours colours
	failed  bool
}

func (r *report) ok(what, detail string)      { r.line(r.colours.green("ok     "), what, detail) }
func (r *report) warning(what, detail string) { r.line(r.colours.yellow("warning"), what, detail) }
func (r *report) fail(what, detail string) {
	r.failed = true
	r.line(r.colours.red("failed "), what, detail)
}

func (r *report) line(state, what, detail string) {
	fmt.Fprintf(r.w, "%s  %-32s %s\n", state, what, printable.Cut(detail, 2*printable.MaxLine)) // an error, and what to do
}

// result is ok, or failed with what to do.
func (r *report) result(what string, err error, fine, advice string) {
	if err != nil {
		r.fail(what, printable.Error(err)+": "+advice)
		return
	}
	r.ok(what, fine)
}

func (o *checkOptions) run(ctx context.Context, stdout io.Writer) error {
	if err := o.validate(); err != nil {
		return err
	}
	r := &report{w: stdout, colours: coloursFor(stdout)}
	r.ok("kernel", o.file("proc/sys/kernel/osrelease"))
	if err := o.nftables(r); err != nil {
		r.fail("nftables", printable.Error(err)+": run this as root, or with CAP_NET_ADMIN")
	}
	o.confinement(r)
	o.tracking(ctx, r)
	o.forwarding(r)
	o.checkSource(ctx, r)
	if r.failed {
		return &exitError{code: exitFailed}
	}
	return nil
}

// nftables checks what the kernel's nftables can, and what else is in it.
func (o *checkOptions) nftables(r *report) error {
	k, err := kernel.Open()
	if err != nil {
		return err
	}
	defer func() { _ = k.Close() }()
	i, err := inspect.Open()
	if err != nil {
		return err
	}
	defer func() { _ = i.Close() }()
	o.features(r, k)
	o.ownership(r, k)
	o.competition(r, i)
	return nil
}

func (o *checkOptions) file(name string) string {
	text, err := os.ReadFile(filepath.Join(o.root, name))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

// features programs a service of each kind.
func (o *checkOptions) features(r *report, k *kernel.Kernel) {
	const advice = "the kernel needs the modules nf_tables, nft_chain_nat, nft_ct, nft_fib, nft_hash, nft_masq, nft_nat, nft_numgen, nft_reject; 5.13 or newer has all that is used"
	for f := range feature.Check(k) {
		r.result("nftables: "+f.Name, f.Err, f.Uses, advice)
	}
}

// competition looks for who else handles Services or translates addresses first.
func (o *checkOptions) competition(r *report, i *inspect.Inspector) {
	found, err := kubeproxy.Competition(i, o.root, kubeproxy.Find(o.root))
	if err != nil {
		r.fail("kube-proxy", printable.Error(err))
	}
	for _, what := range found {
		r.warning("kube-proxy", what)
	}
	if err == nil && len(found) == 0 {
		r.ok("kube-proxy", "none, and nothing left of one")
	}
	pid, notes := trust.Processes{Root: o.root}.First("firewalld", nil)
	for _, note := range notes {
		r.warning("firewalld", note)
	}
	if pid != "" {
		r.warning("firewalld", "is running as process "+pid+": it may drop forwarded connections; let it accept those to and from pods")
	}
	chains, err := i.BaseChains()
	if err != nil {
		r.fail("other nat chains", printable.Error(err))
		return
	}
	ours := tableName(o.source.proxyName)
	var others []string
	for _, c := range chains {
		if c.Type == "nat" && c.Priority == -100 && c.Table != ours {
			others = append(others, fmt.Sprintf("%s %s %s", c.Family, printable.Word(c.Table), printable.Word(c.Name)))
		}
	}
	if len(others) > 0 {
		r.warning("other nat chains", strings.Join(others, ", ")+": at our hook and priority; what they translate first, no Service sees")
		return
	}
	r.ok("other nat chains", "none at our hooks and priority")
}

// ownership says whether tables can have an owner, and who can change those that there are.
func (o *checkOptions) ownership(r *report, k *kernel.Kernel) {
	const what = "owned tables"
	can, err := k.CanOwn()
	if err != nil {
		r.warning(what, printable.Error(err))
		return
	}
	if !can {
		r.ok(what, "the kernel has none (Linux 6.9 does): what other programs change in nftproxy's tables is repaired, not refused")
		return
	}
	state, err := k.ReadHeads(tableName(o.source.proxyName))
	if err != nil {
		r.warning(what, printable.Error(err))
		return
	}
	text, owned := ownersOf(state)
	if text == "" {
		r.ok(what, "the kernel has them; there are no tables of nftproxy's yet")
	} else if pid, _ := runningOf(o.root, o.source.proxyName); pid != "" && !owned {
		r.warning(what, text+"; what other programs change is repaired, not refused: nftproxy runs with --own-tables=never, or is of a version without it")
	} else {
		r.ok(what, text)
	}
}

// confinement shows the rights of the nftproxy that runs here.
func (o *checkOptions) confinement(r *report) {
	const what = "confinement"
	pid, notes := runningOf(o.root, o.source.proxyName)
	for _, note := range notes {
		r.warning(what, note)
	}
	abi, missing := sandbox.ABI()
	landlock := fmt.Sprintf("this kernel has Landlock, version %d", abi)
	if missing != nil {
		landlock = "of Landlock: " + missing.Error()
	}
	if pid == "" {
		r.ok(what, "nftproxy does not run; "+landlock)
		return
	}
	state, err := sandbox.Of(filepath.Join(o.root, "proc"), pid)
	text := fmt.Sprintf("of nftproxy, process %s: %s", pid, state)
	switch {
	case err != nil:
		r.warning(what, err.Error())
	case state.Confined():
		r.ok(what, text)
	case state.LimitedCapabilities() && missing != nil:
		r.ok(what, text+"; "+landlock)
	default:
		r.warning(what, text+"; the line Confinement in its log says why it has more than it needs")
	}
}

func (o *checkOptions) tracking(ctx context.Context, r *report) {
	err := host.AskTracking(ctx)
	r.result("connection tracking", err, "flows to endpoints that are gone can be deleted", "the kernel needs nf_conntrack and nf_conntrack_netlink, and this program CAP_NET_ADMIN")
	if err == nil {
		o.trackingSettings(r)
	}
}

// trackingSettings says what is in force of what 'nftproxy run' sets.
func (o *checkOptions) trackingSettings(r *report) {
	const what = "connection tracking's settings"
	values, err := host.Tracking(&o.kubeProxy.Conntrack).InForce(o.root, host.CPUs())
	if err != nil {
		r.warning(what, err.Error())
		return
	}
	var good, other []string
	for _, v := range values {
		if v.OK() {
			good = append(good, fmt.Sprintf("%s %d", v.Name, v.Now))
		} else {
			other = append(other, fmt.Sprintf("nf_conntrack_%s is %d, not %d", v.Name, v.Now, v.Want))
		}
	}
	switch {
	case len(values) == 0:
		r.ok(what, "left as they are")
	case len(other) == 0:
		r.ok(what, strings.Join(good, ", "))
	default:
		if len(good) > 0 {
			other = append(other, "the others are as they should be ("+strings.Join(good, ", ")+")")
		}
		r.warning(what, strings.Join(other, ", ")+": 'nftproxy run --init-only' with full privileges sets this; the manifest's conntrackSysctls does")
	}
}

func (o *checkOptions) forwarding(r *report) {
	v4, v6 := nodeaddr.Families(o.root)
	for _, s := range []struct {
		what, file, name string
		off              bool
	}{
		{"forwarding, IPv4", "proc/sys/net/ipv4/ip_forward", "net.ipv4.ip_forward", !v4},
		{"forwarding, IPv6", "proc/sys/net/ipv6/conf/all/forwarding", "net.ipv6.conf.all.forwarding", !v6},
	} {
		switch value := o.file(s.file); {
		case s.off:
			r.ok(s.what, "not needed: the node has no addresses of this family")
		case value == "1":
			r.ok(s.what, "on")
		case value == "":
			r.warning(s.what, "the kernel has none: Services of this family are not served")
		default:
			r.warning(s.what, "off: pods cannot reach endpoints on other nodes; sysctl -w "+s.name+"=1")
		}
	}
}

// checkSource looks whether Services can be read.
func (o *checkOptions) checkSource(ctx context.Context, r *report) {
	if o.source.manifests != "" {
		objects, errs := manifests.Source{Dir: o.source.manifests, ServiceProxyName: o.source.proxyName}.Read()
		for _, err := range errs {
			r.fail("manifests", printable.Error(err))
		}
		if len(errs) == 0 {
			r.ok("manifests", fmt.Sprintf("%d Services, %d EndpointSlices", len(objects.Services), len(objects.EndpointSlices)))
		}
		return
	}
	client, err := o.client()
	if err != nil {
		r.fail("API server", printable.Error(err))
		return
	}
	version, err := client.Discovery().ServerVersion()
	if err != nil {
		r.fail("API server", printable.Error(err)+": give the right --kubeconfig or --master")
		return
	}
	r.ok("API server", version.GitVersion)
	for _, right := range neededRights() {
		what := "right to " + right.Verb + " " + right.Resource
		review, err := client.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx,
			&authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &right}}, metav1.CreateOptions{})
		switch {
		case err != nil:
			r.fail(what, printable.Error(err))
		case review.Status.Allowed:
			r.ok(what, "")
		default:
			r.fail(what, fmt.Sprintf("missing: allow it with a ClusterRole (apiGroups: [%q], resources: [%q], verbs: [%q])", right.Group, right.Resource, right.Verb))
		}
	}
}

func neededRights() []authorizationv1.ResourceAttributes {
	var out []authorizationv1.ResourceAttributes
	for _, of := range []struct{ group, resource, verbs string }{
		{"", "services", "list watch"}, {"discovery.k8s.io", "endpointslices", "list watch"}, {"", "nodes", "list watch"},
		{"networking.k8s.io", "servicecidrs", "list watch"}, {"events.k8s.io", "events", "create patch"},
	} {
		for verb := range strings.FieldsSeq(of.verbs) {
			out = append(out, authorizationv1.ResourceAttributes{Group: of.group, Resource: of.resource, Verb: verb})
		}
	}
	return out
}
