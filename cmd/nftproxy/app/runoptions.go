// SPDX-License-Identifier: Apache-2.0

package app

import (
	"errors"
	"fmt"
	"io"
	stdlog "log"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/version"
	"k8s.io/client-go/kubernetes"
	"k8s.io/component-base/logs"
	logsapi "k8s.io/component-base/logs/api/v1"
	_ "k8s.io/component-base/logs/json/register" // --logging-format json
	"k8s.io/klog/v2"
	"sigs.k8s.io/yaml"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/config"
	"github.com/nftproxy/nftproxy/cmd/nftproxy/sandbox"
)

// runOptions is what nftproxy run is told by flags and a configuration file.
type runOptions struct {
	wantOptions
	writeTo     string
	initOnly    bool
	cleanup     bool
	showVersion string // --version: true, false or raw
	auditPeriod time.Duration
	// probeAddress is for probes alone, beside a kube-proxy that has the other addresses.
	probeAddress string
	// sysctlRoot is where proc/sys can be written, if not below /.
	sysctlRoot string

	flags    func() []string // what was given on the command line, for /flagz
	warnings []string        // what the configuration file says and has no meaning here
	logsJSON bool            // the log is JSON

	competitors competitors // as they were at the start

	sandbox string // --sandbox: auto or never
	// enter takes from this process the rights that it does not need; nil: it keeps them.
	enter func(sandbox.Config) (notes []string)

	api      kubernetes.Interface // nil until connect, and for manifests
	apiFiles []apiFile            // what api was made from
}

func runCommand(version string, enter func(sandbox.Config) []string) *cobra.Command {
	o := &runOptions{wantOptions: wantOptions{source: sourceOptions{version: version}}, enter: enter}
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Program this node and keep it programmed",
		Long: `Watch Services and EndpointSlices and program this node's nftables until stopped.

kube-proxy's flags and its configuration file (--config) are understood, and what of
them has no meaning here is named. SIGTERM and SIGINT stop it; the rules stay, so
that traffic goes on while another nftproxy starts. 'nftproxy cleanup' removes them.

As kube-proxy does, it sets up connection tracking (--conntrack-*) and its own OOM
score. Where it may not, it says so, in an Event of the Node, too, unless /proc/sys is
read-only, and goes on: 'nftproxy run --init-only' can do it with full privileges, or
--sysctl-root names where the node's /proc/sys/net is mounted writable. With
--manifests it sets neither.

Once it has started it gives up what rights it does not need (--sandbox): the log, /statusz
and 'nftproxy check' say which it has. What it is to read later has to be where its
files are at the start, or below /etc or /usr.`,
		Example: `  nftproxy run --manifests /etc/nftproxy/services
  nftproxy run --kubeconfig /etc/kubernetes/proxy.conf --cluster-cidr 10.244.0.0/16
  nftproxy run --config /var/lib/kube-proxy/config.conf`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			err := o.main(cmd)
			if err != nil && o.logsJSON {
				return &loggedFault{err}
			}
			return err
		},
	}
	o.addFlags(cmd.Flags())
	return cmd
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

	fs.DurationVar(&o.auditPeriod, "audit-period", 15*time.Minute, "`time` between two comparisons of the kernel's tables with what they should hold; negative: never")
	fs.StringVar(&o.probeAddress, "probe-bind-address", "", "`address` and port of /livez and /readyz, for a kubelet's probes: /readyz is 200 once all Services are programmed; '': none")
	fs.StringVar(&o.sandbox, "sandbox", sandboxAuto, "`how` rights are given up after the start: auto (capabilities, no_new_privs, and Landlock where the kernel has it), or never")
	fs.StringVar(&o.sysctlRoot, "sysctl-root", "/", "`directory` below which proc/sys/net is that of the node and can be written, where a container's own is read-only")
}

// givenFlags returns all flags with their values.
func givenFlags(fs *pflag.FlagSet) []string {
	var out []string
	fs.VisitAll(func(f *pflag.Flag) { out = append(out, f.Name+"="+f.Value.String()) })
	return out
}

// main carries out what is done instead of running, or else runs.
func (o *runOptions) main(cmd *cobra.Command) error {
	flags := cmd.Flags()
	o.flags = func() []string { return givenFlags(flags) }
	if o.showVersion != "false" {
		return o.writeVersion(cmd.OutOrStdout())
	}
	if o.cleanup {
		return (&cleanup{root: "/", proxyName: o.source.proxyName}).run(cmd.OutOrStdout())
	}
	var content []byte
	if o.kubeProxy.File != "" {
		var err error
		if content, err = os.ReadFile(o.kubeProxy.File); err != nil {
			return fmt.Errorf("read --config: %w", err)
		}
	}
	o.competitors = findCompetitors("/")
	o.logsJSON = o.kubeProxy.LogFormat(flags, content) == logsapi.JSONLogFormat
	resolved, err := o.resolved(flags, content)
	if err != nil {
		return err
	}
	if o.writeTo != "" {
		return resolved.writeConfig(o.writeTo)
	}
	if err = logsapi.ValidateAndApplyWithOptions(&resolved.kubeProxy.Logging, logStreams(resolved.kubeProxy.Logging.Format), nil); err != nil {
		return err
	}
	signal.Ignore(syscall.SIGPIPE) // who reads the log may go, and the node must be programmed all the same
	stdlog.SetFlags(0)
	stdlog.SetOutput(logs.KlogWriter{}) // what libraries write, such as net/http
	for name, instead := range config.Deprecated() {
		if flags.Changed(name) {
			klog.InfoS("A flag was given that is deprecated", "flag", "--"+name, "instead", "--"+instead)
		}
	}
	if list := o.kubeProxy.Meaningless(flags); len(list) > 0 {
		klog.InfoS("Flags were given that have no meaning here", "flags", strings.Join(list, ", "))
	}
	resolved.logMeaningless()
	resolved.confine(klog.Background())
	if resolved.initOnly {
		return resolved.run(cmd.Context())
	}
	if err := resolved.connect(); err != nil {
		return err
	}
	return o.runFollowing(cmd.Context(), flags, content, resolved)
}

// resolved returns the options as they count, with what the configuration file says if
// there is one, and all that is wrong with them.
func (o *runOptions) resolved(flags *pflag.FlagSet, file []byte) (*runOptions, error) {
	out := *o
	var err error
	if out.kubeProxy, out.warnings, err = o.kubeProxy.Resolved(flags, file); err != nil {
		return nil, err
	}
	if err := errors.Join(out.validate(), out.validateProbeAddress()); err != nil {
		return nil, err
	}
	if !slices.Contains(sandboxes(), out.sandbox) {
		return nil, fmt.Errorf("--sandbox: %q is none of %s", out.sandbox, strings.Join(sandboxes(), ", "))
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
	for _, w := range o.warnings {
		klog.InfoS("The configuration file says what has no meaning here", "file", o.kubeProxy.File, "what", w)
	}
}

// writeConfig writes the options as a configuration file.
func (o *runOptions) writeConfig(path string) error {
	data, err := yaml.Marshal(&o.kubeProxy.Config)
	if err != nil {
		return fmt.Errorf("write --write-config-to: %w", err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil { //nolint:gosec // it holds no secrets and is for everybody to read
		return fmt.Errorf("write --write-config-to: %w", err)
	}
	return nil
}

// writeVersion answers --version, as kube-proxy does.
func (o *runOptions) writeVersion(w io.Writer) error {
	text := o.source.version
	switch o.showVersion {
	case "true":
	case "raw":
		text = fmt.Sprintf("%#v", version.Info{GitVersion: text, GoVersion: runtime.Version(), Compiler: runtime.Compiler, Platform: runtime.GOOS + "/" + runtime.GOARCH})
	default:
		return fmt.Errorf("--version: %q is none of true, false, raw", o.showVersion)
	}
	_, err := fmt.Fprintln(w, text)
	return err
}
