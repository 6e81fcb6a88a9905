// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/host"
	"github.com/nftproxy/nftproxy/cmd/nftproxy/kubeproxy"
	"github.com/nftproxy/nftproxy/cmd/nftproxy/serve"
	"github.com/nftproxy/nftproxy/conntrack"
	"github.com/nftproxy/nftproxy/printable"
	"github.com/nftproxy/nftproxy/proxier"
	"github.com/nftproxy/nftproxy/proxier/bounded"
	"github.com/nftproxy/nftproxy/proxier/cluster"
	"github.com/nftproxy/nftproxy/proxier/events"
	"github.com/nftproxy/nftproxy/proxier/health"
	"github.com/nftproxy/nftproxy/proxier/localport"
	"github.com/nftproxy/nftproxy/proxier/nodeaddr"
	"github.com/nftproxy/nftproxy/proxier/source"
	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/inspect"
	"github.com/nftproxy/nftproxy/rules/kernel"
)

// nodeWait is how long the Node object is waited for, as by kube-proxy.
const nodeWait = 30 * time.Second

// run runs until ctx ends. It comes after connect.
func (o *runOptions) run(ctx context.Context) error {
	config, err := o.proxierConfig()
	if err != nil {
		return err
	}
	if o.initOnly { // all that needs full root privileges
		_ = host.AskTracking(ctx)
		return host.Tracking(&o.kubeProxy.Conntrack).Apply(o.sysctlRoot, host.CPUs())
	}
	node, log := config.Cluster.NodeName, klog.Background()
	host.LimitMemory(ctx, log, memlimit.FromCgroup)
	problem := func(err error) { log.Error(oneLine(err), "Trouble with the source of Services; what is known stays") }
	src := o.sourceFrom(o.api.Client, node, problem)
	config.Events = events.Func(nil)
	prepare := func() {}
	if o.api.Client != nil {
		recorder := events.New(func(namespace string) events.API { return o.api.Events(namespace) }, node, func(err error) { log.Error(oneLine(err), "Events are missing in the cluster") })
		defer recorder.Close()
		recorder.Normal(nodeReference(node), "Starting", "nftproxy "+o.source.version+" starts")
		config.Events = recorder
		config.Pace.NodeWait = nodeWait
		prepare = func() {
			_ = host.AskTracking(ctx)
			host.Prepare(log, &o.kubeProxy.Config, "/", o.sysctlRoot, func(reason, message string) { recorder.Warning(nodeReference(node), reason, message) })
		}
	}
	return o.program(ctx, config, src, prepare)
}

func nodeReference(name string) corev1.ObjectReference {
	return corev1.ObjectReference{APIVersion: "v1", Kind: "Node", Name: name}
}

// program keeps the kernel as the source wants it, until ctx ends. prepare prepares the machine: who does not write the tables
// does not do that either.
func (o *runOptions) program(ctx context.Context, config proxier.Config, src source.Source, prepare func()) error {
	log := klog.Background()
	k, err := o.openKernel(&config.Rules)
	if err != nil {
		return err
	}
	defer func() { _ = k.Close() }()
	forwarding, err := lookAround(log, config.Rules.Table, o.kubeProxyRuns)
	if err != nil {
		return err
	}
	watch, err := k.Watch(config.Rules.Table)
	if err != nil {
		return err
	}
	defer func() { _ = watch.Close() }()
	flows, err := conntrack.Open()
	if err != nil {
		return err
	}
	defer func() { _ = flows.Close() }()

	addresses, err := nodeaddr.Watch(ctx, func(err error) { log.Error(err, "NodePorts may be served at old addresses for a while") })
	switch {
	case err == nil:
	case ctx.Err() != nil:
		return nil
	default:
		return err
	}
	defer addresses.Close()

	config.Missing = host.MissingFamilies(log)
	config.Metrics = proxier.NewMetrics()
	config.Kernel, config.Conntrack, config.Cluster.Addresses = k, flows, addresses
	config.Foreign.Changed, config.Foreign.Touched, config.Foreign.Turn = watch.Changed(), watch.Touched, o.turn.Held()
	config.Pace.MinSyncPeriod, config.Pace.AuditPeriod = o.kubeProxy.NFTables.MinSyncPeriod.Duration, o.audit
	config.Pace.CountPeriod = o.count
	config.Logger = log
	alive := health.NewProxy(2 * o.kubeProxy.NFTables.SyncPeriod.Duration)
	if forwarding {
		alive.Found()
	}
	answers := healthAnswers(log, config.Events, config.Cluster.NodeName, alive)
	defer answers.Close()
	config.Health = struct {
		*health.Services
		*health.Proxy
	}{answers, alive}
	if config.Cluster.NodePorts.Localhost(rules.IPv4) || config.Cluster.NodePorts.Localhost(rules.IPv6) {
		forwarder := localport.New()
		defer forwarder.Close()
		config.LocalPorts = localPorts{forwarder, config.Cluster.NodePorts}
	}
	return o.keep(ctx, config, src, watch, alive, func() {
		takeOver(ctx, log, k, &config.Rules)
		prepare()
	})
}

// keep runs a proxier of the configuration, its source and its servers.
func (o *runOptions) keep(ctx context.Context, config proxier.Config, src source.Source, watch *kernel.Watch, alive *health.Proxy, prepare func()) error {
	rescue, err := openRescue()
	if err != nil {
		return err
	}
	defer rescue.close()
	p := proxier.New(config)
	proxier.Inspect(p).Remember(o.records)
	failover := o.failover.with(rescue, o.countConnections)
	p.UseFailover(failover)
	o.turn.tellOf(p, alive.Healthy)
	more := []prometheus.Collector{failover.Metrics}
	var counter *serve.Connections
	if config.Rules.CountConnections {
		counter = serve.NewConnections(config.Logger, config.Rules.Table, p.PortAt)
		more = append(more, counter)
	}
	servers := &serving{turn: o.turn, start: func(takesOver bool) (*serve.Servers, error) {
		prepare()
		return o.serve(&config, alive, takesOver, more...)
	}}
	defer servers.close()
	if err := servers.begin(); err != nil {
		return err
	}
	o.source.apiServers.Follow(p.SetAPIServers)
	if o.turn.Holds() { // who does not has no say in it
		if err := p.FreeAPIServers(); err != nil {
			config.Logger.Error(err, "Connections to the API server may be led astray")
		}
	}
	config.Logger.Info("Starting", "version", o.source.version, "node", config.Cluster.NodeName, "table", config.Rules.Table)
	return runTogether(ctx, p.Run,
		func(ctx context.Context) error { return src.Run(ctx, p) },
		func(ctx context.Context) error { host.GiveBack(ctx); return nil },
		servers.run, o.turn.watch, o.answers(&config, p, counter, alive.Healthy),
		func(ctx context.Context) error { return joinWhenSynced(ctx, p, watch) })
}

// serve serves health, metrics and pages, and probes. takesOver says that the process that had the addresses has just ended.
func (o *runOptions) serve(c *proxier.Config, alive *health.Proxy, takesOver bool, more ...prometheus.Collector) (*serve.Servers, error) {
	registry := prometheus.NewRegistry()
	registry.MustRegister(c.Metrics, alive, serve.Affinity{Table: c.Rules.Table, Log: c.Logger},
		serve.Node{Version: o.source.version, ExternalIPs: !c.Cluster.NoExternalIPs, Root: "/"})
	registry.MustRegister(more...)
	at := serve.Addresses{Health: o.kubeProxy.HealthzBindAddress, Metrics: o.kubeProxy.MetricsBindAddress, Probes: o.probeAddress,
		HardFail: o.kubeProxy.BindAddressHardFail, TakesOver: takesOver}.Without(c.Missing)
	shown := o.kubeProxy.Config
	shown.HealthzBindAddress, shown.MetricsBindAddress = at.Health, at.Metrics
	pages := serve.Pages{Metrics: registry, Config: &shown, Flags: o.flags, Version: o.source.version,
		Confinement: func() string { return confinement("/", "self") }}
	return serve.Start(c.Logger, at, serve.Handlers{Health: alive.Handler(), Metrics: pages.Handler(), Probes: alive.ProbeHandler()},
		func(reason, message string) { c.Events.Warning(nodeReference(c.Cluster.NodeName), reason, message) })
}

// lookAround tells of what would compete with nftproxy, and says whether rules of a former run are in force.
func lookAround(log klog.Logger, table string, running kubeproxy.Running) (forwarding bool, err error) {
	i, err := inspect.Open()
	if err != nil {
		return false, err
	}
	defer func() { _ = i.Close() }()
	warnLeftovers(log, i, running)
	return forwards(log, i, table), nil
}

// forwards says whether rules of a former run are in force.
func forwards(log klog.Logger, i *inspect.Inspector, table string) bool {
	found, err := i.Presence(table)
	if err != nil {
		log.Error(err, "Cannot tell whether rules of a former run are in force; /healthz says no until all is programmed")
	}
	return slices.ContainsFunc(found[:], func(p inspect.Presence) bool { return p.Forwards })
}

// checkConnections is how many connections all healthCheckNodePorts together have at most.
const checkConnections = 256

// healthAnswers answers to load balancers that ask for a service's endpoints on this node.
func healthAnswers(log klog.Logger, warnings proxier.Events, node string, alive *health.Proxy) *health.Services {
	return health.New(health.Config{Healthy: alive.Healthy, Pool: bounded.NewPool(bounded.Share(checkConnections)), MaxListeners: bounded.Descriptors() / 4, OnError: func(s health.Service, at netip.AddrPort, err error) {
		log.Error(err, "Load balancers cannot ask for a service's endpoints here", "service", s.Namespace+"/"+s.Name, "address", at)
		warnings.Warning(corev1.ObjectReference{APIVersion: "v1", Kind: "Service", Namespace: s.Namespace, Name: s.Name},
			"FailedToStartServiceHealthcheck", fmt.Sprintf("node %s failed to start healthcheck at %s: %s", node, at, printable.Error(err)))
	}})
}

// warnLeftovers tells of what would compete with nftproxy.
func warnLeftovers(log klog.Logger, i *inspect.Inspector, running kubeproxy.Running) {
	found, err := kubeproxy.Competition(i, "/", running)
	if err != nil {
		log.Error(oneLine(err), "Cannot tell whether kube-proxy left rules")
	}
	for _, what := range found {
		log.Info("Competition", "what", printable.Line(what))
	}
}

// joinWhenSynced begins to watch for foreign changes once all is programmed: the
// kernel is faster while nobody listens.
func joinWhenSynced(ctx context.Context, p *proxier.Proxier, watch *kernel.Watch) error {
	select {
	case <-p.Prepared(): // what is read then is compared again where it changes
		if err := watch.Join(); err != nil {
			return err
		}
		select {
		case <-p.Synced():
		case <-ctx.Done():
			return nil
		}
	case <-p.Synced():
		if err := watch.Join(); err != nil {
			return err
		}
	case <-ctx.Done():
		return nil
	}
	<-ctx.Done()
	return nil
}

// localPorts is a localport.Forwarder as package proxier wants it, for the families that are served.
type localPorts struct {
	forwarder *localport.Forwarder
	serve     cluster.NodePortAddresses
}

func (l localPorts) Set(network string, at netip.AddrPort, endpoints []netip.AddrPort, affinity time.Duration) error {
	if !l.serve.Localhost(rules.FamilyOf(at.Addr())) {
		return nil
	}
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
