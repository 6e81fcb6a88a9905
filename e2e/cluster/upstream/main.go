// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Upstream runs Kubernetes' own sig-network e2e specs on clusters in network namespaces, as root:
//
//	upstream -bin DIR -images FILE,FILE -proxy nftproxy|kube-proxy -out DIR [-select part] [-ipv6-first]
//
// Which specs run on which cluster is in package e2e/upstream. What becomes of them is in junit files below the folder
// -out, of which e2e/upstream/report makes a page. A spec that failed is run once more when the others are done, alone.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/nftproxy/nftproxy/e2e/cluster"
	"github.com/nftproxy/nftproxy/e2e/upstream"
)

// options are the command line.
type options struct {
	bin       string   // absolute; has containerd, its shim, ctr, kubectl and e2e.test
	images    []string // OCI archives
	deploy    string   // deploy/nftproxy.yaml
	kubeProxy string   // the program
	proxy     string   // nftproxy or kube-proxy
	out       string   // absolute
	only      string   // which stages: see stages
	ipv6First bool
	processes int // of e2e.test, at once
	specsEach int // of one such process
	perSpec   time.Duration
	focus     string // only specs with this text in them
}

func main() {
	cluster.RunChild()
	o := parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	err := run(ctx, o)
	stop()
	if err != nil {
		log.Fatal(err)
	}
}

// column is the folder of the results: what the page has a column for.
func (o options) column() string {
	if o.ipv6First {
		return o.proxy + "-ipv6-first"
	}
	return o.proxy
}

func parse() options {
	var o options
	flag.StringVar(&o.bin, "bin", "bin/cluster", "the `folder` of containerd, its shim, ctr, kubectl and e2e.test")
	images := flag.String("images", "", "OCI `archives`, with commas")
	flag.StringVar(&o.deploy, "manifest", "deploy/nftproxy.yaml", "nftproxy's manifest")
	flag.StringVar(&o.kubeProxy, "kube-proxy", "bin/kube-proxy", "the `program`")
	flag.StringVar(&o.proxy, "proxy", "nftproxy", "nftproxy or kube-proxy")
	flag.StringVar(&o.out, "out", "bin/upstream", "the `folder` for junit files and logs")
	flag.StringVar(&o.only, "select", "all", "part: the 30 specs for every change; two, six or balanced: those on that cluster; all")
	flag.BoolVar(&o.ipv6First, "ipv6-first", false, "make IPv6 the clusters' first family; without the specs of load balancers")
	flag.IntVar(&o.processes, "processes", 4, "how many specs run at once")
	flag.IntVar(&o.specsEach, "specs-each", 6, "how many specs a process of e2e.test runs")
	flag.DurationVar(&o.perSpec, "per-spec", 10*time.Minute, "how long a spec may take, in the mean of those of its process")
	flag.StringVar(&o.focus, "focus", "", "run only specs with this `text`")
	flag.Parse()
	o.images = strings.Split(*images, ",")
	for _, path := range []*string{&o.bin, &o.out, &o.deploy, &o.kubeProxy} {
		*path, _ = filepath.Abs(*path)
	}
	return o
}

// stage is a cluster with specs to run on it.
type stage struct {
	name     string
	nodes    int
	clusters []upstream.Cluster // the specs of the first one's run before those of the next one
}

func stages(only string) ([]stage, error) {
	all := []stage{
		{"two", 2, []upstream.Cluster{upstream.Two, upstream.Balanced}},
		{"six", 6, []upstream.Cluster{upstream.Six}},
	}
	switch only {
	case "all":
		all[0].clusters = append([]upstream.Cluster{upstream.Part}, all[0].clusters...)
		return all, nil
	case "part":
		return []stage{{"part", 2, []upstream.Cluster{upstream.Part}}}, nil
	case "two":
		all[0].clusters = []upstream.Cluster{upstream.Part, upstream.Two}
		return all[:1], nil
	case "balanced":
		return []stage{{"balanced", 2, []upstream.Cluster{upstream.Balanced}}}, nil
	case "six":
		return all[1:], nil
	}
	return nil, fmt.Errorf("-select %s: want part, two, balanced, six or all", only)
}

func run(ctx context.Context, o options) error {
	list, err := upstream.Specs()
	if err != nil {
		return err
	}
	todo, err := stages(o.only)
	if err != nil {
		return err
	}
	if o.ipv6First { // the load balancer has IPv4 addresses
		for i := range todo {
			todo[i].clusters = slices.DeleteFunc(todo[i].clusters, func(c upstream.Cluster) bool { return c == upstream.Balanced })
		}
	}
	if o.proxy != "nftproxy" && o.proxy != "kube-proxy" {
		return fmt.Errorf("-proxy %s: want nftproxy or kube-proxy", o.proxy)
	}
	o.out = filepath.Join(o.out, o.column())
	if err := os.MkdirAll(o.out, 0o755); err != nil {
		return err
	}
	if err := compare(ctx, o, list); err != nil {
		return err
	}
	results := upstream.Results{}
	var wanted []string
	var errs []error
	for _, s := range todo {
		ran, err := runStage(ctx, o, s, list, results)
		wanted = append(wanted, ran...)
		errs = append(errs, err)
	}
	return errors.Join(append(errs, summary(o.proxy, wanted, results))...)
}

// runStage makes a cluster, runs the stage's specs there and removes it. It returns the specs, with an error where not all could be run.
func runStage(ctx context.Context, o options, s stage, list []upstream.Spec, results upstream.Results) (wanted []string, err error) {
	r := &runner{options: o, stage: s.name, results: results}
	for _, kind := range s.clusters {
		wanted = append(wanted, r.of(list, kind)...)
	}
	if len(wanted) == 0 {
		return nil, nil
	}
	if err := r.removeOld(); err != nil {
		return wanted, err
	}
	began := time.Now()
	r.site, err = newSite(ctx, o, s.nodes)
	if err != nil {
		return wanted, err
	}
	defer func() { err = errors.Join(err, r.site.stop()) }()
	log.Printf("%s: %d nodes with %s after %.0f s", s.name, s.nodes, o.proxy, time.Since(began).Seconds())
	for _, kind := range s.clusters {
		specs := r.of(list, kind)
		if kind == upstream.Balanced && len(specs) > 0 {
			stop, err := r.site.balance(ctx)
			if err != nil {
				return wanted, err
			}
			defer stop()
		}
		if err := r.run(ctx, specs); err != nil {
			return wanted, err
		}
	}
	log.Printf("%s: %d specs in %.0f s", s.name, len(wanted), time.Since(began).Seconds())
	return wanted, nil
}

// summary prints the counts. Specs that failed, or were not run, are an error.
func summary(proxy string, wanted []string, results upstream.Results) error {
	count := map[upstream.Outcome]int{}
	var bad []string
	for _, spec := range wanted {
		o := results.Of(spec)
		count[o]++
		if o == upstream.Failed || o == upstream.NotRun {
			bad = append(bad, string(o)+": "+spec)
		}
	}
	slices.Sort(bad)
	if len(wanted) == 0 {
		return errors.New("no spec is chosen")
	}
	log.Printf("%s: %d specs: %v", proxy, len(wanted), count)
	if len(bad) > 0 {
		return fmt.Errorf("with %s:\n%s", proxy, strings.Join(bad, "\n"))
	}
	return nil
}
