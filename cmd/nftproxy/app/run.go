// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/spf13/cobra"
	"k8s.io/klog/v2"

	"github.com/nftproxy/nftproxy/conntrack"
	"github.com/nftproxy/nftproxy/proxier"
	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/kernel"
)

type runOptions struct {
	source         sourceOptions
	rules          rulesOptions
	minSyncPeriod  time.Duration
	auditPeriod    time.Duration
	metricsAddress string
}

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
	fs.DurationVar(&o.minSyncPeriod, "min-sync-period", 0, "shortest `time` between two commits (default: none)")
	fs.DurationVar(&o.auditPeriod, "audit-period", 15*time.Minute, "`time` between two comparisons of the kernel's tables with what they should hold; negative: never")
	fs.StringVar(&o.metricsAddress, "metrics-bind-address", "127.0.0.1:10249", "`address` and port of /metrics; empty: none")
	logging := flag.NewFlagSet("", flag.ContinueOnError)
	klog.InitFlags(logging)
	fs.AddGoFlag(logging.Lookup("v"))
	return cmd
}

func (o *runOptions) run(ctx context.Context) error {
	config, err := o.rules.config()
	if err = errors.Join(o.source.validate(), err); err != nil {
		return err
	}
	node, err := o.rules.nodeName()
	if err != nil {
		return err
	}
	log := klog.Background()
	src, err := o.source.open(node, func(err error) { log.Info("Source", "problem", err.Error()) })
	if err != nil {
		return err
	}
	k, err := kernel.Open()
	if err != nil {
		return err
	}
	defer func() { _ = k.Close() }()
	watch, err := k.Watch(config.Table)
	if err != nil {
		return err
	}
	defer func() { _ = watch.Close() }()
	flows, err := conntrack.Open()
	if err != nil {
		return err
	}
	defer func() { _ = flows.Close() }()

	metrics := proxier.NewMetrics()
	o.serveMetrics(log, metrics)
	p := proxier.New(proxier.Config{
		Kernel: k, Conntrack: flows, Rules: config, NodeName: node, MinSyncPeriod: o.minSyncPeriod,
		AuditPeriod: o.auditPeriod, Changed: watch.Changed(), Logger: log, Metrics: metrics,
	})
	log.Info("Starting", "version", o.source.version, "node", node, "table", config.Table)
	return runTogether(ctx, p.Run, func(ctx context.Context) error { return src.Run(ctx, p) })
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

// serveMetrics serves /metrics. A port that is taken costs the metrics only.
func (o *runOptions) serveMetrics(log klog.Logger, m *proxier.Metrics) {
	if o.metricsAddress == "" {
		return
	}
	l, err := net.Listen("tcp", o.metricsAddress)
	if err != nil {
		log.Error(err, "No metrics are served; choose another --metrics-bind-address")
		return
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(m, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = server.Serve(l) }() // ends with the process
}

func cleanupCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "cleanup",
		Short: "Remove nftproxy's tables from this node",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			k, err := kernel.Open()
			if err != nil {
				return err
			}
			defer func() { _ = k.Close() }()
			n, err := k.Remove(rules.DefaultTable)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "removed %d of the tables ip %[2]s and ip6 %[2]s\n", n, rules.DefaultTable)
			return err
		},
	}
}
