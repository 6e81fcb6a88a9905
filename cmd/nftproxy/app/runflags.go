// SPDX-License-Identifier: Apache-2.0

package app

import (
	"slices"
	"time"

	"github.com/spf13/pflag"
	logsapi "k8s.io/component-base/logs/api/v1"
)

// addFlags adds our flags and all that kube-proxy 1.37 has, under its names.
func (o *runOptions) addFlags(fs *pflag.FlagSet) {
	o.addCommon(fs)
	c := &o.config
	fs.Lookup("config").Usage += "; when it changes it is read again"
	fs.StringVar(&o.writeTo, "write-config-to", "", "write what the flags and --config say to this `file` as such a configuration, and exit")
	fs.BoolVar(&o.initOnly, "init-only", false, "set up connection tracking, which takes full root privileges, and exit")
	fs.BoolVar(&o.cleanup, "cleanup", false, "do what 'nftproxy cleanup' does, and exit")
	fs.StringVar(&o.showVersion, "version", "false", "print the `version`, and exit; raw: all that is known of it")
	fs.Lookup("version").NoOptDefVal = "true"

	fs.StringVar(&c.ClientConnection.ContentType, "kube-api-content-type", c.ClientConnection.ContentType, "content `type` of requests to the API server")
	fs.Float32Var(&c.ClientConnection.QPS, "kube-api-qps", c.ClientConnection.QPS, "requests a second to the API server; negative: without limit")
	fs.Int32Var(&c.ClientConnection.Burst, "kube-api-burst", c.ClientConnection.Burst, "requests at once to the API server")

	sync, minSync := &c.NFTables.SyncPeriod.Duration, &c.NFTables.MinSyncPeriod.Duration
	fs.DurationVar(minSync, "min-sync-period", *minSync, "shortest `time` between two commits (default: none)")
	fs.DurationVar(sync, "sync-period", *sync, "half the `time` after which changes that are not programmed make /healthz say so")
	fs.DurationVar(&o.auditPeriod, "audit-period", 15*time.Minute, "`time` between two comparisons of the kernel's tables with what they should hold; negative: never")
	for _, mode := range []string{modeIPTables, modeIPVS} { // kube-proxy's names for these
		fs.DurationVar(minSync, mode+"-min-sync-period", *minSync, "the same as --min-sync-period")
		fs.DurationVar(sync, mode+"-sync-period", *sync, "the same as --sync-period")
		_ = fs.MarkHidden(mode + "-min-sync-period")
		_ = fs.MarkHidden(mode + "-sync-period")
	}
	fs.Var(int32Field{&c.NFTables.MasqueradeBit}, "iptables-masquerade-bit", "the same as --masquerade-bit")
	_ = fs.MarkHidden("iptables-masquerade-bit")

	fs.StringVar(&c.MetricsBindAddress, "metrics-bind-address", c.MetricsBindAddress, "`address` of /metrics, with a port or without; '': none (kube-proxy: the default)")
	fs.StringVar(&c.HealthzBindAddress, "healthz-bind-address", c.HealthzBindAddress, "`address` of /healthz and /livez, with a port or without; '': none (kube-proxy: the default)")
	fs.StringVar(&o.probeAddress, "probe-bind-address", "", "`address` and port of /livez and /readyz, for a kubelet's probes: /readyz is 200 once all Services are programmed; '': none")
	fs.Int32Var(&o.metricsPort, "metrics-port", metricsPort, "`port` of /metrics if --metrics-bind-address has none; 0: no /metrics")
	fs.Int32Var(&o.healthzPort, "healthz-port", healthzPort, "`port` of /healthz and /livez if --healthz-bind-address has none; 0: none of both")
	for name := range deprecatedFlags() { // pflag would write of them to the standard error, whatever form the log has
		_ = fs.MarkHidden(name)
	}
	fs.BoolVar(&c.BindAddressHardFail, "bind-address-hard-fail", false, "end if one of these addresses cannot be had")
	fs.BoolVar(&c.EnableProfiling, "profiling", false, "serve /debug/pprof and /debug/flags/v beside /metrics")
	fs.StringVar(&c.BindAddress, "bind-address", c.BindAddress, "this node's primary `address` if it is not the Node object's first; nothing is bound to it (kube-proxy's name for --node-ip)")

	fs.StringVar(&o.sandbox, "sandbox", sandboxAuto, "`how` rights are given up after the start: auto (capabilities, no_new_privs, and Landlock where the kernel has it), or never")
	fs.Int32Var(c.OOMScoreAdj, "oom-score-adj", *c.OOMScoreAdj, "how unlikely the kernel is to kill this process when memory runs out (-1000 to 1000)")
	t := &c.Conntrack
	fs.Int32Var(t.MaxPerCore, "conntrack-max-per-core", *t.MaxPerCore, "connections that are tracked for each CPU; 0: leave it as it is")
	fs.Int32Var(t.Min, "conntrack-min", *t.Min, "connections that are tracked at least, unless --conntrack-max-per-core is 0")
	established, closeWait := &t.TCPEstablishedTimeout.Duration, &t.TCPCloseWaitTimeout.Duration
	fs.DurationVar(established, "conntrack-tcp-timeout-established", *established, "`time` after which idle TCP connections are forgotten; 0: leave it as it is")
	fs.DurationVar(closeWait, "conntrack-tcp-timeout-close-wait", *closeWait, "the same for those in CLOSE_WAIT")
	fs.BoolVar(&t.TCPBeLiberal, "conntrack-tcp-be-liberal", false, "let TCP packets that are outside of the window pass")
	fs.DurationVar(&t.UDPTimeout.Duration, "conntrack-udp-timeout", 0, "`time` after which unanswered UDP flows are forgotten; 0: leave it as it is")
	fs.DurationVar(&t.UDPStreamTimeout.Duration, "conntrack-udp-timeout-stream", 0, "the same for answered ones")

	fs.StringVar(&o.sysctlRoot, "sysctl-root", "/", "`directory` below which proc/sys/net is that of the node and can be written, where a container's own is read-only")

	addMeaningless(fs, c)
	logsapi.AddFlags(&c.Logging, fs)
}

// deprecatedFlags returns flags of kube-proxy's, and the name of the one to use instead.
func deprecatedFlags() map[string]string {
	return map[string]string{"metrics-port": "metrics-bind-address", "healthz-port": "healthz-bind-address"}
}

// noMeaning is how flags without a meaning are known.
const noMeaning = "has no meaning here"

// addMeaningless adds the flags that kube-proxy has and that have no meaning here. They
// are checked all the same, and written by --write-config-to.
func addMeaningless(to *pflag.FlagSet, c *kubeProxyConfig) {
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

// meaninglessFlags names what was given as flags and has no meaning here.
func (o *runOptions) meaninglessFlags(fs *pflag.FlagSet) []string {
	var out []string
	fs.Visit(func(f *pflag.Flag) {
		if f.Usage == noMeaning && !(f.Name == "proxy-mode" && o.config.Mode == modeNFTables) {
			out = append(out, "--"+f.Name)
		}
	})
	for gate := range o.config.FeatureGates {
		if gate != gateExternalIPs {
			out = append(out, "--feature-gates "+gate)
		}
	}
	slices.Sort(out)
	return out
}

// givenFlags returns all flags with their values.
func givenFlags(fs *pflag.FlagSet) []string {
	var out []string
	fs.VisitAll(func(f *pflag.Flag) { out = append(out, f.Name+"="+f.Value.String()) })
	return out
}

// logsFromFlags puts the logging flags that were given above what a file says; patterns
// of both count, the flags' first.
func logsFromFlags(flags *pflag.FlagSet, to *logsapi.LoggingConfiguration) error {
	own := pflag.NewFlagSet("", pflag.ContinueOnError)
	logsapi.AddFlags(to, own)
	patterns := to.VModule
	to.VModule = nil
	var err error
	own.VisitAll(func(f *pflag.Flag) {
		if given := flags.Lookup(f.Name); err == nil && given != nil && given.Changed {
			err = f.Value.Set(given.Value.String())
		}
	})
	to.VModule = append(to.VModule, patterns...)
	return err
}

// completeAddresses gives addresses without a port that of the deprecated flags, as
// kube-proxy does; port 0 takes an address away.
func (o *runOptions) completeAddresses() {
	orElse(&o.config.BindAddress, "0.0.0.0")
	for _, a := range []struct {
		address *string
		port    int32
	}{{&o.config.HealthzBindAddress, o.healthzPort}, {&o.config.MetricsBindAddress, o.metricsPort}} {
		if *a.address = withPort(*a.address, a.port); a.port == 0 {
			*a.address = ""
		}
	}
}
