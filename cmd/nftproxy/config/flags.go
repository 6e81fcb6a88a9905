// SPDX-License-Identifier: Apache-2.0

package config

import (
	"slices"
	"strconv"

	"github.com/spf13/pflag"
	cliflag "k8s.io/component-base/cli/flag"
	logsapi "k8s.io/component-base/logs/api/v1"
	"k8s.io/utils/ptr"
)

// AddFlags adds the flags of kube-proxy 1.37 that say what a node should hold, under its names, but
// for --master, which no file has. Their values go to o, which they fill with defaults.
func (o *Options) AddFlags(fs *pflag.FlagSet) {
	c := &o.Config
	setDefaults(c)
	c.Mode = ModeNFTables
	fs.StringVar(&o.File, "config", "", "configuration `file` of kube-proxy (kubeproxy.config.k8s.io/v1alpha1); beside it only --hostname-override, --master, logging flags and flags that kube-proxy does not have count")
	fs.StringVar(&c.ClientConnection.Kubeconfig, "kubeconfig", "", "kubeconfig `file` of the API server to watch (default: in-cluster configuration)")
	fs.StringVar(&c.HostnameOverride, "hostname-override", "", "this node's `name` in the cluster (default: the host name)")
	fs.Var(cliflag.NewMapStringBool(&c.FeatureGates), "feature-gates", "`gates`=true|false; known: "+GateExternalIPs+"; kube-proxy's others are taken and mean nothing")

	fs.StringVar(&c.ClusterCIDR, "cluster-cidr", "", "`CIDR` of pods, or two with a comma, one of each family: connections to ClusterIPs from elsewhere are masqueraded")
	fs.BoolVar(&c.NFTables.MasqueradeAll, "masquerade-all", false, "masquerade all connections to ClusterIPs")
	fs.Var(int32Field{&c.NFTables.MasqueradeBit}, "masquerade-bit", "`bit` (0 to 31) of the packet mark that marks connections to be masqueraded")
	fs.StringSliceVar(&c.NodePortAddresses, "nodeport-addresses", nil, "where NodePorts are served: `CIDRs` of the node's addresses, primary (the Node object's addresses, or else those of the default routes; the default), all, or localhost; a family that nothing here is of: on all of its addresses")
	fs.StringVar((*string)(&c.DetectLocalMode), "detect-local-mode", DetectClusterCIDR, "`how` pods are told from others: ClusterCIDR (--cluster-cidr), NodeCIDR (the Node object's podCIDRs), BridgeInterface or InterfaceNamePrefix")
	fs.StringVar(&c.DetectLocal.BridgeInterface, "pod-bridge-interface", "", "`name` of the bridge that pods are behind, for BridgeInterface")
	fs.StringVar(&c.DetectLocal.InterfaceNamePrefix, "pod-interface-name-prefix", "", "what the `names` of pods' interfaces begin with, for InterfaceNamePrefix")
}

// AddRunFlags adds those that say how the process itself runs, and those that have no meaning here.
// It comes after AddFlags.
func (o *Options) AddRunFlags(fs *pflag.FlagSet) {
	c := &o.Config
	fs.StringVar(&c.ClientConnection.ContentType, "kube-api-content-type", c.ClientConnection.ContentType, "content `type` of requests to the API server")
	fs.Float32Var(&c.ClientConnection.QPS, "kube-api-qps", c.ClientConnection.QPS, "requests a second to the API server; negative: without limit")
	fs.Int32Var(&c.ClientConnection.Burst, "kube-api-burst", c.ClientConnection.Burst, "requests at once to the API server")
	fs.Int32Var(c.OOMScoreAdj, "oom-score-adj", *c.OOMScoreAdj, "how unlikely the kernel is to kill this process when memory runs out (-1000 to 1000)")
	o.addSyncFlags(fs)
	o.addAddressFlags(fs)
	o.addConntrackFlags(fs)
	o.addMeaninglessFlags(fs)
	logsapi.AddFlags(&c.Logging, fs)
}

func (o *Options) addSyncFlags(fs *pflag.FlagSet) {
	c := &o.NFTables
	sync, minSync := &c.SyncPeriod.Duration, &c.MinSyncPeriod.Duration
	fs.DurationVar(minSync, "min-sync-period", *minSync, "shortest `time` between two commits (default: none)")
	fs.DurationVar(sync, "sync-period", *sync, "half the `time` after which changes that are not programmed make /healthz say so")
	for _, mode := range []string{modeIPTables, modeIPVS} { // kube-proxy's names for these
		fs.DurationVar(minSync, mode+"-min-sync-period", *minSync, "the same as --min-sync-period")
		fs.DurationVar(sync, mode+"-sync-period", *sync, "the same as --sync-period")
		_ = fs.MarkHidden(mode + "-min-sync-period")
		_ = fs.MarkHidden(mode + "-sync-period")
	}
	fs.Var(int32Field{&c.MasqueradeBit}, "iptables-masquerade-bit", "the same as --masquerade-bit")
	_ = fs.MarkHidden("iptables-masquerade-bit")
}

func (o *Options) addAddressFlags(fs *pflag.FlagSet) {
	c := &o.Config
	fs.StringVar(&c.MetricsBindAddress, "metrics-bind-address", c.MetricsBindAddress, "`address` of /metrics, with a port or without; '': none (kube-proxy: the default)")
	fs.StringVar(&c.HealthzBindAddress, "healthz-bind-address", c.HealthzBindAddress, "`address` of /healthz and /livez, with a port or without; '': none (kube-proxy: the default)")
	fs.Int32Var(&o.metricsPort, "metrics-port", metricsPort, "`port` of /metrics if --metrics-bind-address has none; 0: no /metrics")
	fs.Int32Var(&o.healthzPort, "healthz-port", healthzPort, "`port` of /healthz and /livez if --healthz-bind-address has none; 0: none of both")
	for name := range Deprecated() { // pflag would write of them to the standard error, whatever form the log has
		_ = fs.MarkHidden(name)
	}
	fs.BoolVar(&c.BindAddressHardFail, "bind-address-hard-fail", false, "end if one of these addresses cannot be had")
	fs.BoolVar(&c.EnableProfiling, "profiling", false, "serve /debug/pprof and /debug/flags/v beside /metrics")
	fs.StringVar(&c.BindAddress, "bind-address", c.BindAddress, "this node's primary `address` if it is not the Node object's first; nothing is bound to it (kube-proxy's name for --node-ip)")
}

func (o *Options) addConntrackFlags(fs *pflag.FlagSet) {
	t := &o.Conntrack
	fs.Int32Var(t.MaxPerCore, "conntrack-max-per-core", *t.MaxPerCore, "connections that are tracked for each CPU; 0: leave it as it is")
	fs.Int32Var(t.Min, "conntrack-min", *t.Min, "connections that are tracked at least, unless --conntrack-max-per-core is 0")
	established, closeWait := &t.TCPEstablishedTimeout.Duration, &t.TCPCloseWaitTimeout.Duration
	fs.DurationVar(established, "conntrack-tcp-timeout-established", *established, "`time` after which idle TCP connections are forgotten; 0: leave it as it is")
	fs.DurationVar(closeWait, "conntrack-tcp-timeout-close-wait", *closeWait, "the same for those in CLOSE_WAIT")
	fs.BoolVar(&t.TCPBeLiberal, "conntrack-tcp-be-liberal", false, "let TCP packets that are outside of the window pass")
	fs.DurationVar(&t.UDPTimeout.Duration, "conntrack-udp-timeout", 0, "`time` after which unanswered UDP flows are forgotten; 0: leave it as it is")
	fs.DurationVar(&t.UDPStreamTimeout.Duration, "conntrack-udp-timeout-stream", 0, "the same for answered ones")
}

// noMeaning is how flags without a meaning are known.
const noMeaning = "has no meaning here"

// addMeaninglessFlags adds the flags that kube-proxy has and that have no meaning here. They
// are checked all the same, and written by --write-config-to.
func (o *Options) addMeaninglessFlags(to *pflag.FlagSet) {
	c := &o.Config
	fs := pflag.NewFlagSet("", pflag.ContinueOnError)
	fs.StringVar((*string)(&c.Mode), "proxy-mode", string(c.Mode), "")
	fs.BoolVar(c.IPTables.LocalhostNodePorts, "iptables-localhost-nodeports", true, "")
	fs.DurationVar(&c.ConfigSyncPeriod.Duration, "config-sync-period", c.ConfigSyncPeriod.Duration, "")
	fs.StringVar(&c.ShowHiddenMetricsForVersion, "show-hidden-metrics-for-version", "", "")
	fs.StringVar(&c.IPVS.Scheduler, "ipvs-scheduler", "", "")
	fs.StringSliceVar(&c.IPVS.ExcludeCIDRs, "ipvs-exclude-cidrs", nil, "")
	fs.BoolVar(&c.IPVS.StrictARP, "ipvs-strict-arp", false, "")
	fs.DurationVar(&c.IPVS.TCPTimeout.Duration, "ipvs-tcp-timeout", 0, "")
	fs.DurationVar(&c.IPVS.TCPFinTimeout.Duration, "ipvs-tcpfin-timeout", 0, "")
	fs.DurationVar(&c.IPVS.UDPTimeout.Duration, "ipvs-udp-timeout", 0, "")
	fs.String("boot-id-file", "", "")
	fs.String("machine-id-file", "", "")
	fs.VisitAll(func(f *pflag.Flag) { f.Usage, f.Hidden = noMeaning, true })
	to.AddFlagSet(fs)
}

// Deprecated returns flags that kube-proxy deprecates, and the name of the one to use instead.
func Deprecated() map[string]string {
	return map[string]string{"metrics-port": "metrics-bind-address", "healthz-port": "healthz-bind-address"}
}

// Meaningless names what was given as flags and has no meaning here, sorted.
func (o *Options) Meaningless(fs *pflag.FlagSet) []string {
	var out []string
	fs.Visit(func(f *pflag.Flag) {
		counts := f.Name == "proxy-mode" && o.Mode == ModeNFTables || f.Name == "ipvs-scheduler" && o.Mode == modeIPVS
		if f.Usage == noMeaning && !counts {
			out = append(out, "--"+f.Name)
		}
	})
	for gate := range o.FeatureGates {
		if gate != GateExternalIPs {
			out = append(out, "--feature-gates "+gate)
		}
	}
	slices.Sort(out)
	return out
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
