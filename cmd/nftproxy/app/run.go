// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"

	"github.com/nftproxy/nftproxy/conntrack"
	"github.com/nftproxy/nftproxy/proxier"
	"github.com/nftproxy/nftproxy/proxier/events"
	"github.com/nftproxy/nftproxy/proxier/health"
	"github.com/nftproxy/nftproxy/proxier/localport"
	"github.com/nftproxy/nftproxy/proxier/nodeaddr"
	"github.com/nftproxy/nftproxy/rules/kernel"
)

type runOptions struct {
	source         sourceOptions
	rules          rulesOptions
	node           nodeOptions
	minSyncPeriod  time.Duration
	auditPeriod    time.Duration
	metricsAddress string
	healthzAddress string
}

// healthTimeout is how long changes may wait before /healthz says so: twice the sync
// period of kube-proxy's default.
const healthTimeout = time.Minute

func runCommand(version string) *cobra.Command {
	o := runOptions{source: sourceOptions{version: version}}
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Program this node and keep it programmed",
		Long: `Watch Services and EndpointSlices and program this node's nftables until stopped.

SIGTERM and SIGINT stop it; the rules stay, so that traffic goes on while another
nftproxy starts. 'nftproxy cleanup' removes them.`,
		Example: `  nftproxy run --manifests /etc/nftproxy/services
  nftproxy run --kubeconfig /etc/kubernetes/proxy.conf --cluster-cidr 10.244.0.0/16`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context()) },
	}
	fs := cmd.Flags()
	o.source.add(fs)
	o.rules.add(fs)
	o.node.add(fs)
	fs.DurationVar(&o.minSyncPeriod, "min-sync-period", 0, "shortest `time` between two commits (default: none)")
	fs.DurationVar(&o.auditPeriod, "audit-period", 15*time.Minute, "`time` between two comparisons of the kernel's tables with what they should hold; negative: never")
	fs.StringVar(&o.metricsAddress, "metrics-bind-address", "127.0.0.1:10249", "`address` and port of /metrics; empty: none")
	fs.StringVar(&o.healthzAddress, "healthz-bind-address", "0.0.0.0:10256", "`address` and port of /healthz and /livez; empty: none")
	logging := flag.NewFlagSet("", flag.ContinueOnError)
	klog.InitFlags(logging)
	fs.AddGoFlag(logging.Lookup("v"))
	return cmd
}

func (o *runOptions) run(ctx context.Context) error {
	config, err := proxierConfig(&o.source, &o.rules, &o.node)
	if err != nil {
		return err
	}
	node, table := config.NodeName, config.Rules.Table
	log := klog.Background()
	problem := func(err error) { log.Info("Source", "problem", err.Error()) }
	src, client, err := o.source.open(node, problem)
	if err != nil {
		return err
	}
	if client != nil {
		recorder := events.New(client, node, problem)
		defer recorder.Close()
		config.Events = recorder
	} else {
		config.Events = events.Func(nil)
	}
	k, err := kernel.Open()
	if err != nil {
		return err
	}
	defer func() { _ = k.Close() }()
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

	metrics := proxier.NewMetrics()
	serveMetrics(o.metricsAddress, log, metrics, affinityCollector{k, table, log})
	config.Kernel, config.Conntrack, config.Changed, config.Addresses = k, flows, watch.Changed(), addresses
	alive := health.NewProxy(healthTimeout)
	answers := health.New(health.Config{Healthy: alive.Healthy, OnError: func(s health.Service, at netip.AddrPort, err error) {
		log.Error(err, "Load balancers cannot ask for a service's endpoints here", "service", s.Namespace+"/"+s.Name, "address", at)
		config.Events.Warning(corev1.ObjectReference{APIVersion: "v1", Kind: "Service", Namespace: s.Namespace, Name: s.Name},
			"FailedToStartServiceHealthcheck", fmt.Sprintf("node %s failed to start healthcheck at %s: %v", node, at, err))
	}})
	defer answers.Close()
	serveHTTP(o.healthzAddress, log, "No health is served; choose another --healthz-bind-address", alive.Handler())
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
	config.Logger, config.Metrics = log, metrics
	p := proxier.New(config)
	log.Info("Starting", "version", o.source.version, "node", node, "table", table)
	return runTogether(ctx, p.Run, func(ctx context.Context) error { return src.Run(ctx, p) }, func(ctx context.Context) error {
		select {
		case <-p.Synced():
			if err := watch.Join(); err != nil {
				return err
			}
		case <-ctx.Done():
		}
		<-ctx.Done()
		return nil
	})
}

// localPorts is a localport.Forwarder as package proxier wants it.
type localPorts struct{ forwarder *localport.Forwarder }

func (l localPorts) Set(network string, at netip.AddrPort, endpoints []netip.AddrPort, affinity time.Duration) error {
	return l.forwarder.Set(localport.Port{Network: network, Addr: at}, endpoints, affinity)
}

func (l localPorts) Delete(network string, at netip.AddrPort) {
	l.forwarder.Delete(localport.Port{Network: network, Addr: at})
}

// proxierConfig checks the options of the commands that run a proxier, and returns
// what they say; all that is wrong with them is in one error.
func proxierConfig(s *sourceOptions, r *rulesOptions, n *nodeOptions) (proxier.Config, error) {
	var c proxier.Config
	var errs [3]error
	c.Rules, errs[0] = r.config(s.proxyName)
	c.NodeName, errs[1] = r.nodeName()
	errs[2] = n.apply(&c)
	return c, errors.Join(s.validate(), errors.Join(errs[:]...))
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

func cleanupCommand() *cobra.Command {
	var proxyName string
	cmd := &cobra.Command{
		Use:   "cleanup",
		Short: "Remove nftproxy's tables from this node",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			k, err := kernel.Open()
			if err != nil {
				return err
			}
			defer func() { _ = k.Close() }()
			table := tableName(proxyName)
			n, err := k.Remove(table)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "removed %d of the tables ip %[2]s and ip6 %[2]s\n", n, table)
			return err
		},
	}
	cmd.Flags().StringVar(&proxyName, "service-proxy-name", "", "`name` that 'nftproxy run' was given")
	return cmd
}
