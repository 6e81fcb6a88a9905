// SPDX-License-Identifier: Apache-2.0

package app

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"

	"github.com/spf13/pflag"
	"k8s.io/klog/v2"
	netutils "k8s.io/utils/net"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/apiserver"
	"github.com/nftproxy/nftproxy/cmd/nftproxy/ask"
	"github.com/nftproxy/nftproxy/cmd/nftproxy/config"
	"github.com/nftproxy/nftproxy/proxier"
	"github.com/nftproxy/nftproxy/proxier/cluster"
	"github.com/nftproxy/nftproxy/rules"
)

// wantOptions decides what this node should hold.
type wantOptions struct {
	kubeProxy config.Options
	running   bool // these are the options of the nftproxy that runs on this node

	// What kube-proxy does not have.
	source    sourceOptions
	nodeIPs   []string
	scheduler string // empty: not given
	maglev    struct {
		size uint16
		seed uint32
	}
	maxSlots         int
	affinitySize     uint32
	countConnections bool // --service-metrics
	failover         failoverOptions
}

// sourceOptions says where Services and EndpointSlices come from, besides
// wantOptions.kubeProxy.
type sourceOptions struct {
	version    string // of this program, for the user agent
	master     string
	manifests  string
	proxyName  string // of --service-proxy-name
	socket     string // where the nftproxy that runs is asked
	userConfig bool   // outside a cluster, kubectl's kubeconfig is a source, too
	context    string // of a kubeconfig; empty: its current one
	// apiServers learns where the API server is reached; nil: nobody wants to know.
	apiServers *apiserver.Addresses
}

// add adds the flags of a command that looks at what should be and changes nothing.
func (o *wantOptions) add(fs *pflag.FlagSet) {
	o.source.userConfig = true
	o.addCommon(fs)
	fs.StringVar(&o.source.context, "context", "", "`name` of the kubeconfig's context to use (default: its current one)")
	fs.Lookup("kubeconfig").Usage = "kubeconfig `file` of the API server (default: that of the nftproxy that runs here, in-cluster configuration, else kubectl's)"
}

// addCommon adds the flags of all commands that know what should be. The names and
// meanings of flags that kube-proxy has, too, are kube-proxy's.
func (o *wantOptions) addCommon(fs *pflag.FlagSet) {
	o.kubeProxy.AddFlags(fs)
	fs.StringVar(&o.source.master, "master", "", "`URL` of the API server, overrides the kubeconfig's")
	fs.StringVar(&o.source.proxyName, "service-proxy-name", "", "serve only Services whose label service.kubernetes.io/service-proxy-name is this `name`, in tables of their own (default: those without the label)")
	fs.StringVar(&o.source.manifests, "manifests", "", "`directory` of YAML and JSON manifests to watch instead of an API server")

	fs.StringVar(&o.source.socket, "socket", ask.DefaultSocket, "Unix socket, a `path`, at which the nftproxy that runs is asked, by root alone; TABLE stands for the tables' name; '': none")
	fs.BoolVar(&o.countConnections, "service-metrics", false, "count the new connections to each service port, for /metrics; switching it writes the tables anew")

	fs.StringSliceVar(&o.nodeIPs, "node-ip", nil, "this node's `addresses`, one of each family (default: the Node object's)")
	o.failover.add(fs)
	fs.StringVar(&o.scheduler, "scheduler", "", "`how` connections are spread: "+oneOf(rules.SchedulerNames())+"; a Service's annotation "+cluster.SchedulerAnnotation+
		" overrides it (default: "+rules.RoundRobin.String()+", or in kube-proxy's mode ipvs what is nearest to ipvs.scheduler)")
	fs.Uint16Var(&o.maglev.size, "maglev-table-size", rules.DefaultMaglevSize, "`slots` of the "+schedulersThat(rules.Scheduler.Tables)+": a prime from 251 to 65521, a hundred times the endpoints or more; a Service's annotation "+cluster.MaglevSizeAnnotation+" overrides it")
	fs.Uint32Var(&o.maglev.seed, "maglev-seed", rules.HashSeed, "`number` that makes tables of the "+schedulersThat(rules.Scheduler.Tables)+" differ from other clusters'; all nodes need the same")
	fs.IntVar(&o.maxSlots, "max-slots", cluster.DefaultMaxSlots, "greatest `number` of map elements that all Services with weights, slow start or the "+schedulersThat(rules.Scheduler.Copies)+" share, in each family and traffic policy: with more such Services each gets coarser shares")
	fs.Uint32Var(&o.affinitySize, "affinity-size", rules.DefaultAffinitySize, "greatest `number` of clients that a service port with session affinity remembers")
}

// given says whether a source is named.
func (o *wantOptions) given() bool {
	return o.source.manifests != "" || o.kubeProxy.ClientConnection.Kubeconfig != "" || o.source.master != "" || o.source.context != "" || o.kubeProxy.File != "" || o.running
}

// validate returns all that is wrong with the options.
func (o *wantOptions) validate() error {
	var errs []error
	for _, err := range config.Validate(&o.kubeProxy.Config) {
		errs = append(errs, err)
	}
	if o.source.manifests != "" && (o.kubeProxy.ClientConnection.Kubeconfig != "" || o.source.master != "") {
		errs = append(errs, errors.New("--manifests goes with neither --kubeconfig nor --master: give one source"))
	}
	for _, s := range o.nodeIPs {
		if _, err := netip.ParseAddr(s); err != nil {
			errs = append(errs, fmt.Errorf("--node-ip: %q is not an IP address", s))
		}
	}
	if _, err := rules.ParseScheduler(o.scheduler); o.scheduler != "" && err != nil {
		errs = append(errs, fmt.Errorf("--scheduler: %w", err))
	}
	errs = append(errs, o.failover.validate())
	if !rules.IsMaglevSize(int(o.maglev.size)) {
		errs = append(errs, fmt.Errorf("--maglev-table-size: %d is no prime from %d to %d, such as 251, 1021, 4093, 16381 or 65521", o.maglev.size, rules.MinMaglevSize, rules.MaxMaglevSize))
	}
	if o.maglev.seed == 0 {
		errs = append(errs, errors.New("--maglev-seed: 0 is none: give a number above it"))
	}
	if o.maxSlots < 1 {
		errs = append(errs, fmt.Errorf("--max-slots: %d is too few: give a number above 0", o.maxSlots))
	}
	if o.affinitySize == 0 {
		errs = append(errs, errors.New("--affinity-size: 0 would remember nobody: give a number above it"))
	}
	return errors.Join(errs...)
}

// proxierConfig checks the options, and returns what they say.
func (o *wantOptions) proxierConfig() (proxier.Config, error) {
	if err := o.validate(); err != nil {
		return proxier.Config{}, err
	}
	name, err := o.nodeName()
	if err != nil {
		return proxier.Config{}, err
	}
	in := &o.kubeProxy
	c := proxier.Config{Cluster: cluster.Config{NodeName: name, NodePorts: nodePorts(in.NodePortAddresses), DetectNodeCIDR: in.DetectLocalMode == config.DetectNodeCIDR}}
	c.Rules = rules.Config{Table: tableName(o.source.proxyName), MasqueradeAll: in.NFTables.MasqueradeAll, MasqueradeMark: 1 << *in.NFTables.MasqueradeBit,
		CountConnections: o.countConnections, AffinitySize: o.affinitySize, MaglevSeed: o.maglev.seed, AllNodePortIPs: c.Cluster.NodePorts.Everything()}.WithDefaults()
	switch in.DetectLocalMode {
	case config.DetectBridgeInterface:
		c.Rules.PodInterface = in.DetectLocal.BridgeInterface
	case config.DetectInterfacePrefix:
		c.Rules.PodInterface = in.DetectLocal.InterfaceNamePrefix + "*"
	}
	for s := range strings.SplitSeq(in.ClusterCIDR, ",") {
		if p, err := config.ParseCIDR(s); err == nil && !c.Cluster.DetectNodeCIDR {
			c.Rules.PodCIDRs = append(c.Rules.PodCIDRs, p)
		}
	}
	if a, _ := netip.AddrFromSlice(netutils.ParseIPSloppy(in.BindAddress)); !a.Unmap().IsUnspecified() {
		c.Cluster.NodeIPs = append(c.Cluster.NodeIPs, a.Unmap())
	}
	for _, s := range o.nodeIPs {
		c.Cluster.NodeIPs = append(c.Cluster.NodeIPs, netip.MustParseAddr(s).Unmap())
	}
	c.Cluster.Failover = o.failover.on
	c.Cluster.Scheduler, c.Cluster.TableSize, c.Cluster.MaxSlots = o.schedulerOf(), o.maglev.size, o.maxSlots
	if allowed, ok := in.FeatureGates[config.GateExternalIPs]; ok {
		c.Cluster.NoExternalIPs = !allowed
	}
	return c, nil
}

// schedulerOf returns the default scheduler: the flag's, else the nearest to that of kube-proxy's IPVS mode, if the configuration
// is for that. A name of IPVS' that is none is taken for the default of both: round robin.
func (o *wantOptions) schedulerOf() rules.Scheduler {
	if o.scheduler != "" {
		s, _ := rules.ParseScheduler(o.scheduler) // validate has read it
		return s
	}
	if name, ok := config.IPVSScheduler(&o.kubeProxy.Config); ok {
		return ipvsSchedulers[name].nearest
	}
	return rules.RoundRobin
}

// logScheduler says which scheduler is taken for IPVS'.
func (o *wantOptions) logScheduler() {
	name, ok := config.IPVSScheduler(&o.kubeProxy.Config)
	if !ok || o.scheduler != "" {
		return
	}
	row, known := ipvsSchedulers[name]
	if !known {
		row.differs = "IPVS has no scheduler of this name"
	}
	klog.InfoS("The scheduler of the IPVS mode is taken over", "ipvs", name, "scheduler", row.nearest, "differs", row.differs)
}

// nodePorts reads nodePortAddresses. Keywords become CIDRs of both families, but for primary, whose
// addresses may change.
func nodePorts(list []string) (a cluster.NodePortAddresses) {
	for _, s := range list {
		switch s {
		case "primary":
			a.Primary = true
		case "all":
			a.CIDRs = append(a.CIDRs, netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0"))
		case "localhost":
			a.CIDRs = append(a.CIDRs, netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128"))
		default:
			if p, err := config.ParseCIDR(s); err == nil {
				a.CIDRs = append(a.CIDRs, p)
			}
		}
	}
	return a
}

// tableName returns the name of the tables of a --service-proxy-name.
func tableName(proxyName string) string {
	if proxyName == "" {
		return rules.DefaultTable
	}
	return rules.DefaultTable + "-" + proxyName
}

// proxyNameOf returns the --service-proxy-name of tables.
func proxyNameOf(table string) string {
	return strings.TrimPrefix(strings.TrimPrefix(table, rules.DefaultTable), "-")
}

// nodeName returns this node's name, in lower case as Kubernetes has it.
func (o *wantOptions) nodeName() (string, error) {
	name := o.kubeProxy.HostnameOverride
	if name == "" {
		var err error
		if name, err = os.Hostname(); err != nil {
			return "", fmt.Errorf("get host name: %w: give --hostname-override", err)
		}
	}
	return strings.ToLower(strings.TrimSpace(name)), nil
}

// oneOf lists names as 'a, b or c'.
func oneOf(names []string) string { return listed(names, "or") }

// listed lists names, of which there is one at least, as 'a, b and c'.
func listed(names []string, and string) string {
	last := len(names) - 1
	if last == 0 {
		return names[0]
	}
	return strings.Join(names[:last], ", ") + " " + and + " " + names[last]
}

// schedulersThat names the schedulers that have a property.
func schedulersThat(have func(rules.Scheduler) bool) string {
	var names []string
	for _, s := range rules.Schedulers() {
		if have(s) {
			names = append(names, s.String())
		}
	}
	if len(names) == 1 {
		return "scheduler " + names[0]
	}
	return "schedulers " + listed(names, "and")
}

// textOrJSON checks the option --output.
func textOrJSON(output string) error {
	if output != "text" && output != "json" {
		return fmt.Errorf("--output: %q is neither text nor json", output)
	}
	return nil
}

// noTable says that this node has no table of a name.
func noTable(table string) error {
	return fmt.Errorf("this node has no table named %s: is nftproxy running here?", table)
}

// guesses says whether the options of the node's nftproxy are not known: what is asked is a cluster, and none is given that says where
// pods are.
func guesses(o *wantOptions) bool {
	return o.source.manifests == "" && !o.running && o.kubeProxy.File == "" && o.kubeProxy.ClusterCIDR == "" && o.kubeProxy.DetectLocalMode == config.DetectClusterCIDR
}
