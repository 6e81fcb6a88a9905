// SPDX-License-Identifier: Apache-2.0

package app

import (
	"fmt"
	"io"
	stdlog "log"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/version"
	"k8s.io/component-base/logs"
	logsapi "k8s.io/component-base/logs/api/v1"
	_ "k8s.io/component-base/logs/json/register" // --logging-format json
	"k8s.io/klog/v2"
	"sigs.k8s.io/yaml"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/config"
	"github.com/nftproxy/nftproxy/cmd/nftproxy/kubeproxy"
	"github.com/nftproxy/nftproxy/cmd/nftproxy/sandbox"
)

func runCommand(version string, enter func(sandbox.Config) []string) *cobra.Command {
	o := &runOptions{wantOptions: wantOptions{source: sourceOptions{version: version}}, confining: confining{enter: enter}}
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Program this node and keep it programmed",
		Long: `Watch Services and EndpointSlices and program this node's nftables until stopped.

kube-proxy's flags and its configuration file (--config) are understood, and what of
them has no meaning here is named. SIGTERM and SIGINT stop it; the rules stay, so
that traffic goes on while another nftproxy starts. 'nftproxy cleanup' removes them.

One nftproxy writes the tables of a name (--service-proxy-name) in a network namespace.
Another one says which that is, gets ready, and takes over at once when it ends.

As kube-proxy does, it sets up connection tracking (--conntrack-*) and its own OOM
score. Where it may not, it says so, in an Event of the Node, too, unless /proc/sys is
read-only, and goes on: 'nftproxy run --init-only' can do it with full privileges, or
--sysctl-root names where the node's /proc/sys/net is mounted writable. With
--manifests it sets neither.

Once it has started it gives up what rights it does not need (--sandbox): the log, /statusz
and 'nftproxy check' say which it has. What it is to read later has to be where its
files are at the start, or below /etc or /usr.

The exit code is 0 after SIGTERM or SIGINT, 2 after an error.`,
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
	o.kubeProxyRuns = kubeproxy.Find("/")
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
	if err = resolved.connect(); err != nil {
		return err
	}
	turn, err := takeTurn(klog.Background(), tableName(resolved.source.proxyName), resolved.source.version, absolute(resolved.socket()))
	if err != nil {
		return err
	}
	defer func() { _ = turn.Close() }()
	o.turn, resolved.turn = turn, turn
	return o.runFollowing(cmd.Context(), flags, content, resolved)
}

// givenFlags returns all flags with their values.
func givenFlags(fs *pflag.FlagSet) []string {
	var out []string
	fs.VisitAll(func(f *pflag.Flag) { out = append(out, f.Name+"="+f.Value.String()) })
	return out
}

// writeConfig writes the options as a configuration file.
func (o *runOptions) writeConfig(path string) error {
	data, err := yaml.Marshal(&o.kubeProxy.Config)
	if err != nil {
		return fmt.Errorf("write --write-config-to: %w", err)
	}
	if own := o.kubeProxy.Own; !own.Empty() {
		more, err := own.Marshal()
		if err != nil {
			return fmt.Errorf("write --write-config-to: %w", err)
		}
		data = slices.Concat(data, []byte("---\n"), more)
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
