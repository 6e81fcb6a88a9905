// SPDX-License-Identifier: Apache-2.0

package app

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/pflag"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/config"
	"github.com/nftproxy/nftproxy/cmd/nftproxy/kubeproxy"
	"github.com/nftproxy/nftproxy/cmd/nftproxy/sandbox"
	"github.com/nftproxy/nftproxy/proxier/apiclient"
	"github.com/nftproxy/nftproxy/rules"
)

// The values of --sandbox and --own-tables.
const (
	auto  = "auto"
	never = "never"
)

// autoOrNever says what is wrong with the value of such a flag.
func autoOrNever(flag, value string) error {
	if value == auto || value == never {
		return nil
	}
	return fmt.Errorf("--%s: %q is none of %s, %s", flag, value, auto, never)
}

// runOptions is what nftproxy run is told by flags and a configuration file.
type runOptions struct {
	wantOptions
	instead
	keeping
	// probeAddress is for probes alone, beside a kube-proxy that has the other addresses.
	probeAddress string
	// sysctlRoot is where proc/sys can be written, if not below /.
	sysctlRoot string

	flags    func() []string // what was given on the command line, for /flagz
	warnings []string        // what the configuration file says and has no meaning here
	logsJSON bool            // the log is JSON

	kubeProxyRuns kubeproxy.Running // at the start

	confining
	api  apiClient
	turn *turn // to write the tables; nil until main
}

// confining is how rights are given up after the start.
type confining struct {
	sandbox string // --sandbox: auto or never
	// enter takes from this process the rights that it does not need; nil: it keeps them.
	enter func(sandbox.Config) (notes []string)
}

// keeping says how the kernel's tables are kept.
type keeping struct {
	audit, count time.Duration // between two looks
	ownTables    string        // auto or never
	records      uint64        // that are remembered of what was done
}

// instead is what else is to be done.
type instead struct {
	writeTo     string
	initOnly    bool
	cleanup     bool
	showVersion string // --version: true, false or raw
}

// apiClient reaches the API server.
type apiClient struct {
	*apiclient.Client           // nil until connect, and for manifests
	files             []apiFile // what it was made from
}

// apiFile is a file that a client was made from.
type apiFile struct {
	what, path string
	content    []byte
}

// addFlags adds our flags and all that kube-proxy 1.37 has, under its names.
func (o *runOptions) addFlags(fs *pflag.FlagSet) {
	o.addCommon(fs)
	o.kubeProxy.AddRunFlags(fs)
	fs.Lookup("config").Usage += "; when it changes it is read again"
	fs.StringVar(&o.writeTo, "write-config-to", "", "write what the flags and --config say to this `file` as such a configuration, and exit")
	fs.BoolVar(&o.initOnly, "init-only", false, "set up connection tracking, which takes full root privileges, and exit")
	fs.BoolVar(&o.cleanup, "cleanup", false, "do what 'nftproxy cleanup' does, and exit")
	fs.StringVar(&o.showVersion, "version", "false", "print the `version`, and exit; raw: all that is known of it")
	fs.Lookup("version").NoOptDefVal = "true"

	fs.DurationVar(&o.audit, "audit-period", 15*time.Minute, "`time` between two comparisons of the kernel's tables with what they should hold; negative: never")
	fs.DurationVar(&o.count, "count-period", time.Second, "`time` between two counts of open connections for the "+schedulersThat(rules.Scheduler.Counts)+"; longer where counting would take more than a twentieth of a CPU")
	fs.Uint64Var(&o.records, "history", 1000, "greatest `number` of changes to the tables that are remembered, for 'nftproxy history'; each takes up to 5 kB")
	fs.StringVar(&o.ownTables, "own-tables", auto, "`whether` nobody else can change the kernel's tables: auto (where the kernel has tables that belong to a process and outlive it, since Linux 6.9), or never; else what others change is repaired")
	fs.StringVar(&o.probeAddress, "probe-bind-address", "", "`address` and port of /livez and /readyz, for a kubelet's probes: /readyz is 200 once all Services are programmed; '': none")
	fs.StringVar(&o.sandbox, "sandbox", auto, "`how` rights are given up after the start: auto (capabilities, no_new_privs, and Landlock where the kernel has it), or never")
	fs.StringVar(&o.sysctlRoot, "sysctl-root", "/", "`directory` below which proc/sys/net is that of the node and can be written, where a container's own is read-only")
}

// resolved returns the options as they count, with what the configuration file says if
// there is one, and all that is wrong with them.
func (o *runOptions) resolved(flags *pflag.FlagSet, file []byte) (*runOptions, error) {
	out := *o
	var err error
	if out.kubeProxy, out.warnings, err = o.kubeProxy.Resolved(flags, file); err != nil {
		return nil, err
	}
	useOwn(&out.wantOptions, flags)
	count := metav1.Duration{Duration: out.count}
	settle(flags, "count-period", &count, &out.kubeProxy.Own.CountPeriod)
	out.count = count.Duration
	if err := errors.Join(out.validate(), out.validateProbeAddress(), autoOrNever("sandbox", out.sandbox), autoOrNever("own-tables", out.ownTables)); err != nil {
		return nil, err
	}
	const mostRecords = 100000
	if out.records < 1 || out.records > mostRecords {
		return nil, fmt.Errorf("--history: %d is not a number from 1 to %d", out.records, mostRecords)
	}
	if out.count <= 0 {
		return nil, fmt.Errorf("--count-period: %s is no time: give one above 0", out.count)
	}
	return &out, nil
}

// validateProbeAddress checks the address that kube-proxy does not have.
func (o *runOptions) validateProbeAddress() error {
	if config.IsAddress(o.probeAddress) {
		return nil
	}
	return fmt.Errorf("--probe-bind-address: %q is not an IP address and a port, as in 127.0.0.1:10246", o.probeAddress)
}

func (o *runOptions) logMeaningless() {
	o.logScheduler()
	for _, w := range o.warnings {
		klog.InfoS("The configuration file says what has no meaning here", "file", o.kubeProxy.File, "what", w)
	}
}
