// SPDX-License-Identifier: Apache-2.0

package app

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"
	logsapi "k8s.io/component-base/logs/api/v1"
)

// addFlags adds our flags and all that kube-proxy 1.37 has, under its names.
func (o *runOptions) addFlags(fs *pflag.FlagSet) {
	o.source.add(fs)
	o.rules.add(fs)
	o.node.add(fs)
	o.addConfigFile(fs)
	fs.Lookup("config").Usage += "; when it changes it is read again"
	fs.StringVar(&o.writeTo, "write-config-to", "", "write what the flags say to this `file` as such a configuration, and exit")
	fs.BoolVar(&o.initOnly, "init-only", false, "set up connection tracking, which takes full root privileges, and exit")
	fs.BoolVar(&o.cleanup, "cleanup", false, "remove nftproxy's tables, and exit")
	fs.BoolVar(&o.showVersion, "version", false, "print the version, and exit")

	fs.StringVar(&o.source.contentType, "kube-api-content-type", defaultContentType, "content `type` of requests to the API server")
	fs.Float32Var(&o.source.qps, "kube-api-qps", defaultQPS, "requests a second to the API server")
	fs.IntVar(&o.source.burst, "kube-api-burst", defaultBurst, "requests at once to the API server")

	fs.DurationVar(&o.minSyncPeriod, "min-sync-period", 0, "shortest `time` between two commits (default: none)")
	fs.DurationVar(&o.syncPeriod, "sync-period", defaultSyncPeriod, "half the `time` after which changes that are not programmed make /healthz say so")
	fs.DurationVar(&o.auditPeriod, "audit-period", 15*time.Minute, "`time` between two comparisons of the kernel's tables with what they should hold; negative: never")
	for _, mode := range []string{"iptables", "ipvs"} { // kube-proxy's names for these
		fs.DurationVar(&o.minSyncPeriod, mode+"-min-sync-period", 0, "the same as --min-sync-period")
		fs.DurationVar(&o.syncPeriod, mode+"-sync-period", defaultSyncPeriod, "the same as --sync-period")
		_ = fs.MarkHidden(mode + "-min-sync-period")
		_ = fs.MarkHidden(mode + "-sync-period")
	}
	fs.IntVar(&o.rules.masqueradeBit, "iptables-masquerade-bit", defaultMasqBit, "the same as --masquerade-bit")
	_ = fs.MarkHidden("iptables-masquerade-bit")

	fs.StringVar(&o.metricsAddress, "metrics-bind-address", fmt.Sprintf("127.0.0.1:%d", metricsPort), "`address` and port of /metrics; empty: none")
	fs.StringVar(&o.healthzAddress, "healthz-bind-address", fmt.Sprintf("0.0.0.0:%d", healthzPort), "`address` and port of /healthz and /livez; empty: none")
	fs.StringVar(&o.probeAddress, "probe-bind-address", "", "`address` and port of /livez and /readyz, for a kubelet's probes: /readyz is 200 once all Services are programmed; empty: none")
	fs.Var(portOf{&o.metricsAddress}, "metrics-port", "`port` of /metrics; 0: none")
	fs.Var(portOf{&o.healthzAddress}, "healthz-port", "`port` of /healthz and /livez; 0: none")
	_ = fs.MarkDeprecated("metrics-port", "use --metrics-bind-address")
	_ = fs.MarkDeprecated("healthz-port", "use --healthz-bind-address")
	fs.BoolVar(&o.hardFail, "bind-address-hard-fail", false, "end if one of these addresses cannot be had")
	fs.BoolVar(&o.profiling, "profiling", false, "serve /debug/pprof beside /metrics")
	fs.StringVar(&o.node.bindAddress, "bind-address", "0.0.0.0", "this node's primary `address` if it is not the Node object's first; nothing is bound to it (kube-proxy's name for --node-ip)")
	fs.IntVar(&o.oomScoreAdj, "oom-score-adj", defaultOOMScoreAdj, "how unlikely the kernel is to kill this process when memory runs out (-1000 to 1000)")

	fs.IntVar(&o.tracking.MaxPerCore, "conntrack-max-per-core", defaultMaxPerCore, "connections that are tracked for each CPU; 0: leave it as it is")
	fs.IntVar(&o.tracking.Min, "conntrack-min", defaultMinTracked, "connections that are tracked at least, unless --conntrack-max-per-core is 0")
	fs.DurationVar(&o.tracking.TCPEstablished, "conntrack-tcp-timeout-established", 24*time.Hour, "`time` after which idle TCP connections are forgotten; 0: leave it as it is")
	fs.DurationVar(&o.tracking.TCPCloseWait, "conntrack-tcp-timeout-close-wait", time.Hour, "the same for those in CLOSE_WAIT")
	fs.BoolVar(&o.tracking.TCPBeLiberal, "conntrack-tcp-be-liberal", false, "let TCP packets that are outside of the window pass")
	fs.DurationVar(&o.tracking.UDP, "conntrack-udp-timeout", 0, "`time` after which unanswered UDP flows are forgotten; 0: leave it as it is")
	fs.DurationVar(&o.tracking.UDPStream, "conntrack-udp-timeout-stream", 0, "the same for answered ones")

	for name, kind := range ignored() {
		fs.Var(kind, name, "has no meaning here")
		_ = fs.MarkHidden(name)
		if kind.isBool {
			fs.Lookup(name).NoOptDefVal = "true"
		}
	}
	logsapi.AddFlags(&o.logging, fs)
}

// anything is the value of a flag that kube-proxy has and that has no meaning here.
type anything struct {
	value  string
	isBool bool
}

func (a *anything) String() string     { return a.value }
func (a *anything) Set(s string) error { a.value = s; return nil }
func (a *anything) Type() string       { return "string" }

func ignored() map[string]*anything {
	return map[string]*anything{
		"proxy-mode": {}, "iptables-localhost-nodeports": {isBool: true}, "config-sync-period": {}, "show-hidden-metrics-for-version": {},
		"ipvs-scheduler": {}, "ipvs-exclude-cidrs": {}, "ipvs-strict-arp": {isBool: true}, "ipvs-tcp-timeout": {}, "ipvs-tcpfin-timeout": {},
		"ipvs-udp-timeout": {}, "boot-id-file": {}, "machine-id-file": {},
	}
}

// ignoredFlags names those of them that were given.
func ignoredFlags(fs *pflag.FlagSet) []string {
	var out []string
	known := ignored()
	fs.Visit(func(f *pflag.Flag) {
		if known[f.Name] != nil && !(f.Name == "proxy-mode" && f.Value.String() == "nftables") {
			out = append(out, "--"+f.Name)
		}
	})
	slices.Sort(out)
	return out
}

// givenFlags returns all flags with their values.
func givenFlags(fs *pflag.FlagSet) []string {
	var out []string
	fs.VisitAll(func(f *pflag.Flag) { out = append(out, f.Name+"="+f.Value.String()) })
	return out
}

// portOf is the port of an address; 0 takes the address away.
type portOf struct{ address *string }

func (p portOf) String() string {
	if p.address == nil {
		return ""
	}
	return (*p.address)[strings.LastIndexByte(*p.address, ':')+1:]
}

// Set implements pflag.Value.
func (p portOf) Set(port string) error {
	if port == "0" {
		*p.address = ""
		return nil
	}
	*p.address = (*p.address)[:strings.LastIndexByte(*p.address, ':')+1] + port
	return nil
}

// Type implements pflag.Value.
func (portOf) Type() string { return "port" }
