// SPDX-License-Identifier: Apache-2.0

package app

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/pflag"
	cliflag "k8s.io/component-base/cli/flag"
	netutils "k8s.io/utils/net"
	"k8s.io/utils/ptr"

	"github.com/nftproxy/nftproxy/proxier"
	"github.com/nftproxy/nftproxy/proxier/cluster"
	"github.com/nftproxy/nftproxy/rules"
)

// wantOptions decides what this node should hold.
type wantOptions struct {
	// config is what kube-proxy's flags say, or its configuration file.
	config     kubeProxyConfig
	configFile string
	running    bool // these are the options of the nftproxy that runs on this node

	// What kube-proxy does not have.
	source           sourceOptions
	nodeIPs          []string
	scheduler        string
	affinitySize     uint32
	countConnections bool // --service-metrics
}

// add adds the flags of a command that looks at what should be and changes nothing.
func (o *wantOptions) add(fs *pflag.FlagSet) {
	o.source.userConfig = true
	o.addCommon(fs)
	fs.Lookup("kubeconfig").Usage = "kubeconfig `file` of the API server (default: that of the nftproxy that runs here, in-cluster configuration, else kubectl's)"
}

// addCommon adds the flags of all commands that know what should be. The names and
// meanings of flags that kube-proxy has, too, are kube-proxy's.
func (o *wantOptions) addCommon(fs *pflag.FlagSet) {
	c := &o.config
	setDefaults(c)
	c.Mode = modeNFTables
	fs.StringVar(&o.configFile, "config", "", "configuration `file` of kube-proxy (kubeproxy.config.k8s.io/v1alpha1); beside it only --hostname-override, --master, logging flags and flags that kube-proxy does not have count")
	fs.StringVar(&c.ClientConnection.Kubeconfig, "kubeconfig", "", "kubeconfig `file` of the API server to watch (default: in-cluster configuration)")
	fs.StringVar(&o.source.master, "master", "", "`URL` of the API server, overrides the kubeconfig's")
	fs.StringVar(&o.source.proxyName, "service-proxy-name", "", "serve only Services whose label service.kubernetes.io/service-proxy-name is this `name`, in tables of their own (default: those without the label)")
	fs.StringVar(&o.source.manifests, "manifests", "", "`directory` of YAML and JSON manifests to watch instead of an API server")

	fs.StringVar(&c.ClusterCIDR, "cluster-cidr", "", "`CIDR` of pods, or two with a comma, one of each family: connections to ClusterIPs from elsewhere are masqueraded")
	fs.BoolVar(&c.NFTables.MasqueradeAll, "masquerade-all", false, "masquerade all connections to ClusterIPs")
	fs.Var(int32Field{&c.NFTables.MasqueradeBit}, "masquerade-bit", "`bit` (0 to 31) of the packet mark that marks connections to be masqueraded")
	fs.BoolVar(&o.countConnections, "service-metrics", false, "count the new connections to each service port, for /metrics; switching it writes the tables anew")
	fs.StringVar(&c.HostnameOverride, "hostname-override", "", "this node's `name` in the cluster (default: the host name)")

	fs.StringSliceVar(&o.nodeIPs, "node-ip", nil, "this node's `addresses`, one of each family (default: the Node object's)")
	fs.StringSliceVar(&c.NodePortAddresses, "nodeport-addresses", nil, "where NodePorts are served: `CIDRs` of the node's addresses, primary (the Node object's addresses, or else those of the default routes; the default), all, or localhost; a family that nothing here is of: on all of its addresses")
	fs.StringVar((*string)(&c.DetectLocalMode), "detect-local-mode", detectClusterCIDR, "`how` pods are told from others: ClusterCIDR (--cluster-cidr), NodeCIDR (the Node object's podCIDRs), BridgeInterface or InterfaceNamePrefix")
	fs.StringVar(&c.DetectLocal.BridgeInterface, "pod-bridge-interface", "", "`name` of the bridge that pods are behind, for BridgeInterface")
	fs.StringVar(&c.DetectLocal.InterfaceNamePrefix, "pod-interface-name-prefix", "", "what the `names` of pods' interfaces begin with, for InterfaceNamePrefix")
	fs.StringVar(&o.scheduler, "scheduler", rules.RoundRobin.String(), "`how` connections are spread: round-robin, random or source-hash; a Service's annotation "+cluster.SchedulerAnnotation+" overrides it")
	fs.Uint32Var(&o.affinitySize, "affinity-size", rules.DefaultAffinitySize, "greatest `number` of clients that a service port with session affinity remembers")
	fs.Var(cliflag.NewMapStringBool(&c.FeatureGates), "feature-gates", "`gates`=true|false; known: "+gateExternalIPs+"; kube-proxy's others are taken and mean nothing")
}

// int32Field is the value of a flag for a field that is a pointer, wherever a
// configuration file lets it point.
type int32Field struct{ to **int32 }

// Set implements pflag.Value.
func (f int32Field) Set(s string) error {
	n, err := strconv.ParseInt(s, 10, 32)
	*f.to = ptr.To(int32(n))
	return err
}

func (f int32Field) String() string {
	if f.to == nil || *f.to == nil {
		return ""
	}
	return strconv.Itoa(int(**f.to))
}

// Type implements pflag.Value.
func (int32Field) Type() string { return "int32" }

// use puts a configuration file in place of kube-proxy's flags. As there, only
// --hostname-override, --master and the logging flags count beside one.
func (o *wantOptions) use(c *kubeProxyConfig) {
	name := o.config.HostnameOverride
	o.config = *c
	if name != "" {
		o.config.HostnameOverride = name
	}
}

// given says whether a source is named.
func (o *wantOptions) given() bool {
	return o.source.manifests != "" || o.config.ClientConnection.Kubeconfig != "" || o.source.master != "" || o.configFile != "" || o.running
}

// validate returns all that is wrong with the options.
func (o *wantOptions) validate() error {
	var errs []error
	for _, err := range validateConfig(&o.config) {
		errs = append(errs, err)
	}
	if o.source.manifests != "" && (o.config.ClientConnection.Kubeconfig != "" || o.source.master != "") {
		errs = append(errs, errors.New("--manifests goes with neither --kubeconfig nor --master: give one source"))
	}
	for _, s := range o.nodeIPs {
		if _, err := netip.ParseAddr(s); err != nil {
			errs = append(errs, fmt.Errorf("--node-ip: %q is not an IP address", s))
		}
	}
	if _, ok := rules.ParseScheduler(o.scheduler); !ok {
		errs = append(errs, fmt.Errorf("--scheduler: %q is none of round-robin, random, source-hash", o.scheduler))
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
	in := &o.config
	c := proxier.Config{Cluster: cluster.Config{NodeName: name, NodePorts: nodePorts(in.NodePortAddresses), DetectNodeCIDR: in.DetectLocalMode == detectNodeCIDR}}
	c.Rules = rules.Config{Table: tableName(o.source.proxyName), MasqueradeAll: in.NFTables.MasqueradeAll, MasqueradeMark: 1 << *in.NFTables.MasqueradeBit,
		CountConnections: o.countConnections, AffinitySize: o.affinitySize, AllNodePortIPs: c.Cluster.NodePorts.Everything()}.WithDefaults()
	switch in.DetectLocalMode {
	case detectBridgeInterface:
		c.Rules.PodInterface = in.DetectLocal.BridgeInterface
	case detectInterfacePrefix:
		c.Rules.PodInterface = in.DetectLocal.InterfaceNamePrefix + "*"
	}
	for s := range strings.SplitSeq(in.ClusterCIDR, ",") {
		if p, err := parseCIDR(s); err == nil && !c.Cluster.DetectNodeCIDR {
			c.Rules.PodCIDRs = append(c.Rules.PodCIDRs, p)
		}
	}
	if a, _ := netip.AddrFromSlice(netutils.ParseIPSloppy(in.BindAddress)); !a.Unmap().IsUnspecified() {
		c.Cluster.NodeIPs = append(c.Cluster.NodeIPs, a.Unmap())
	}
	for _, s := range o.nodeIPs {
		c.Cluster.NodeIPs = append(c.Cluster.NodeIPs, netip.MustParseAddr(s).Unmap())
	}
	c.Cluster.Scheduler, _ = rules.ParseScheduler(o.scheduler)
	if allowed, ok := in.FeatureGates[gateExternalIPs]; ok {
		c.Cluster.NoExternalIPs = !allowed
	}
	return c, nil
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
			if p, err := parseCIDR(s); err == nil {
				a.CIDRs = append(a.CIDRs, p)
			}
		}
	}
	return a
}

// parseCIDR reads a CIDR as kube-proxy does, with leading zeros, too, and IPv4 in its IPv6 form.
func parseCIDR(s string) (netip.Prefix, error) {
	_, network, err := netutils.ParseCIDRSloppy(s)
	if err != nil {
		return netip.Prefix{}, err
	}
	ones, _ := network.Mask.Size()
	a, _ := netip.AddrFromSlice(network.IP)
	if a.Is4In6() && ones >= 96 {
		a, ones = a.Unmap(), ones-96
	}
	return netip.PrefixFrom(a, ones), nil
}

// tableName returns the name of the tables of a --service-proxy-name.
func tableName(proxyName string) string {
	if proxyName == "" {
		return rules.DefaultTable
	}
	return rules.DefaultTable + "-" + proxyName
}

// nodeName returns this node's name, in lower case as Kubernetes has it.
func (o *wantOptions) nodeName() (string, error) {
	name := o.config.HostnameOverride
	if name == "" {
		var err error
		if name, err = os.Hostname(); err != nil {
			return "", fmt.Errorf("get host name: %w: give --hostname-override", err)
		}
	}
	return strings.ToLower(strings.TrimSpace(name)), nil
}
