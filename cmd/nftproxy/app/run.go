// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	logsapi "k8s.io/component-base/logs/api/v1"
	_ "k8s.io/component-base/logs/json/register" // --logging-format json
	"k8s.io/klog/v2"
	"k8s.io/utils/cpuset"

	"github.com/nftproxy/nftproxy/conntrack"
	"github.com/nftproxy/nftproxy/proxier"
	"github.com/nftproxy/nftproxy/proxier/events"
	"github.com/nftproxy/nftproxy/proxier/health"
	"github.com/nftproxy/nftproxy/proxier/localport"
	"github.com/nftproxy/nftproxy/proxier/nodeaddr"
	"github.com/nftproxy/nftproxy/proxier/source"
	"github.com/nftproxy/nftproxy/rules/kernel"
)

// gcPercent is half of Go's default: on a node memory is dearer than the little time that
// this takes more.
const gcPercent = 50

// nodeWait is how long the Node object is waited for, as by kube-proxy.
const nodeWait = 30 * time.Second

// runOptions is what nftproxy run is told by flags and a configuration file.
type runOptions struct {
	wantOptions
	writeTo     string
	initOnly    bool
	cleanup     bool
	showVersion bool

	syncPeriod     time.Duration
	minSyncPeriod  time.Duration
	auditPeriod    time.Duration
	metricsAddress string
	healthzAddress string
	probeAddress   string
	hardFail       bool
	profiling      bool
	oomScoreAdj    int
	tracking       conntrack.Settings
	logging        logsapi.LoggingConfiguration

	flags func() []string // what was given on the command line, for /flagz
}

func runCommand(version string) *cobra.Command {
	o := &runOptions{wantOptions: wantOptions{source: sourceOptions{version: version}}, logging: *logsapi.NewLoggingConfiguration()}
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Program this node and keep it programmed",
		Long: `Watch Services and EndpointSlices and program this node's nftables until stopped.

kube-proxy's flags and its configuration file (--config) are understood, and what of
them has no meaning here is named. SIGTERM and SIGINT stop it; the rules stay, so
that traffic goes on while another nftproxy starts. 'nftproxy cleanup' removes them.`,
		Example: `  nftproxy run --manifests /etc/nftproxy/services
  nftproxy run --kubeconfig /etc/kubernetes/proxy.conf --cluster-cidr 10.244.0.0/16
  nftproxy run --config /var/lib/kube-proxy/config.conf`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.main(cmd) },
	}
	o.addFlags(cmd.Flags())
	return cmd
}

// main carries out what is done instead of running, or else runs. A configuration file
// that changes makes it start again.
func (o *runOptions) main(cmd *cobra.Command) error {
	o.flags = func() []string { return givenFlags(cmd.Flags()) }
	log := klog.Background()
	for _, name := range ignoredFlags(cmd.Flags()) {
		log.Info("A flag has no meaning here", "flag", name)
	}
	switch {
	case o.showVersion:
		_, err := fmt.Fprintln(cmd.OutOrStdout(), o.source.version)
		return err
	case o.writeTo != "":
		return o.writeConfig(o.writeTo)
	case o.cleanup:
		return (&cleanup{root: "/", proxyName: o.source.proxyName}).run(cmd.OutOrStdout())
	case o.configFile == "":
		if err := applyLogging(&o.logging); err != nil {
			return err
		}
		return o.run(cmd.Context())
	}
	return o.runWithConfig(cmd.Context(), cmd.Flags())
}

func (o *runOptions) run(ctx context.Context) error {
	config, err := o.proxierConfig()
	if err != nil {
		return err
	}
	if o.initOnly { // all that needs full root privileges
		return o.tracking.Apply(cpus())
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	node, log := config.NodeName, klog.Background()
	problem := func(err error) { log.Info("Source", "problem", err.Error()) }
	src, client, err := o.source.open(node, problem)
	if err != nil {
		return err
	}
	config.Events = events.Func(nil)
	if client != nil {
		recorder := events.New(client, node, problem)
		defer recorder.Close()
		recorder.Normal(corev1.ObjectReference{APIVersion: "v1", Kind: "Node", Name: node}, "Starting", "nftproxy "+o.source.version+" starts")
		config.Events = recorder
		config.NodeWait = nodeWait
		o.prepareHost(log)
	}
	return o.program(ctx, config, src)
}

// program keeps the kernel as the source wants it, until ctx ends.
func (o *runOptions) program(ctx context.Context, config proxier.Config, src source.Source) error {
	node, table, log := config.NodeName, config.Rules.Table, klog.Background()
	k, err := kernel.Open()
	if err != nil {
		return err
	}
	defer func() { _ = k.Close() }()
	warnLeftovers(log, k)
	watch, err := k.Watch(table)
	if err != nil {
		return err
	}
	defer func() { _ = watch.Close() }()
	flows, err := conntrack.Open()
	if err != nil {
		return err
	}
	defer func() { _ = flows.Close() }()

	addresses, err := nodeaddr.Watch(func(err error) { log.Error(err, "NodePorts may be served at old addresses for a while") })
	if err != nil {
		return err
	}
	defer addresses.Close()

	config.Metrics = proxier.NewMetrics()
	config.Kernel, config.Conntrack, config.Changed, config.Addresses = k, flows, watch.Changed(), addresses
	alive := health.NewProxy(2 * o.syncPeriod)
	answers := healthAnswers(log, config.Events, node, alive)
	defer answers.Close()
	config.Health = struct {
		*health.Services
		*health.Proxy
	}{answers, alive}
	if config.NodePorts.Localhost {
		forwarder := localport.New()
		defer forwarder.Close()
		config.LocalPorts = localPorts{forwarder}
	}
	config.MinSyncPeriod, config.AuditPeriod = o.minSyncPeriod, o.auditPeriod
	config.Logger = log
	p := proxier.New(config)
	collectors := []prometheus.Collector{config.Metrics, affinityCollector{table, log}}
	if config.Rules.CountConnections {
		collectors = append(collectors, &connectionCollector{table: table, log: log, portAt: p.PortAt})
	}
	servers, err := o.serve(log, alive, collectors...)
	if err != nil {
		return err
	}
	defer servers.Close()
	log.Info("Starting", "version", o.source.version, "node", node, "table", table)
	return runTogether(ctx, p.Run,
		func(ctx context.Context) error { return src.Run(ctx, p) },
		func(ctx context.Context) error { return joinWhenSynced(ctx, p, watch) })
}

// healthAnswers answers to load balancers that ask for a service's endpoints on this node.
func healthAnswers(log klog.Logger, warnings proxier.Events, node string, alive *health.Proxy) *health.Services {
	return health.New(health.Config{Healthy: alive.Healthy, OnError: func(s health.Service, at netip.AddrPort, err error) {
		log.Error(err, "Load balancers cannot ask for a service's endpoints here", "service", s.Namespace+"/"+s.Name, "address", at)
		warnings.Warning(corev1.ObjectReference{APIVersion: "v1", Kind: "Service", Namespace: s.Namespace, Name: s.Name},
			"FailedToStartServiceHealthcheck", fmt.Sprintf("node %s failed to start healthcheck at %s: %v", node, at, err))
	}})
}

// warnLeftovers tells of what would compete with nftproxy.
func warnLeftovers(log klog.Logger, k *kernel.Kernel) {
	found, err := leftovers(k, "/")
	if err != nil {
		log.Error(err, "Cannot tell whether kube-proxy left rules")
	}
	for _, what := range found {
		log.Info("Competition", "what", what)
	}
}

// settle is how long after the first commit all that it needed is garbage.
const settle = 5 * time.Second

// joinWhenSynced begins to watch for foreign changes once all is programmed: the
// kernel is faster while nobody listens. Then it gives the memory back that a full load
// needs besides.
func joinWhenSynced(ctx context.Context, p *proxier.Proxier, watch *kernel.Watch) error {
	select {
	case <-p.Synced():
		if err := watch.Join(); err != nil {
			return err
		}
	case <-ctx.Done():
		return nil
	}
	select {
	case <-time.After(settle):
		debug.FreeOSMemory()
	case <-ctx.Done():
	}
	<-ctx.Done()
	return nil
}

// prepareHost sets what kube-proxy sets on a node. What cannot be set costs nothing
// else: a container may write little below /proc and /sys.
func (o *runOptions) prepareHost(log klog.Logger) {
	if err := o.tracking.Apply(cpus()); err != nil {
		log.Info("Connection tracking is not set up as it should be; run 'nftproxy run --init-only' with full privileges, or leave it as it is (--conntrack-max-per-core 0)",
			"reason", err.Error())
	}
	if err := os.WriteFile("/proc/self/oom_score_adj", []byte(strconv.Itoa(o.oomScoreAdj)), 0); err != nil {
		log.V(2).Info("The OOM killer does not know that this process matters", "reason", err.Error())
	}
}

// cpus returns the number of the machine's CPUs, not of those that this process may use.
func cpus() int {
	n, err := cpuset.NumCPU()
	if err != nil || n < 1 {
		return 1
	}
	return n
}

// localPorts is a localport.Forwarder as package proxier wants it.
type localPorts struct{ forwarder *localport.Forwarder }

func (l localPorts) Set(network string, at netip.AddrPort, endpoints []netip.AddrPort, affinity time.Duration) error {
	return l.forwarder.Set(localport.Port{Network: network, Addr: at}, endpoints, affinity)
}

func (l localPorts) Delete(network string, at netip.AddrPort) {
	l.forwarder.Delete(localport.Port{Network: network, Addr: at})
}

// runTogether runs functions until one returns, then ends the others' context and
// waits for them. It returns their errors.
func runTogether(ctx context.Context, fns ...func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	results := make(chan error)
	for _, fn := range fns {
		go func() { results <- fn(ctx) }()
	}
	var errs []error
	for range fns {
		errs = append(errs, <-results)
		cancel()
	}
	return errors.Join(errs...)
}
