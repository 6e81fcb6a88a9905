// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/nftproxy/nftproxy/e2e/bench/report"
	"github.com/nftproxy/nftproxy/e2e/controlplane"
)

func main() {
	controlplane.RunChild()
	if len(os.Args) > 1 && os.Args[1] == "compare" {
		os.Exit(compare(os.Args[2:]))
	}
	// Ctrl-C ends the measurement and then the program, with everything taken down; a second one at once.
	list := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) { // nohup must stay nohup
		list = append(list, syscall.SIGHUP)
	}
	ctx, stop := signal.NotifyContext(context.Background(), list...)
	context.AfterFunc(ctx, stop)
	if err := run(ctx, os.Args[1:]); err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, "bench:", err)
		}
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	quick := flags.Bool("quick", false, "measure less, in 5 minutes instead of 35")
	resume := flags.Bool("resume", false, "go on with the run whose results are in -out")
	out := flags.String("out", "bench-report", "`folder` of the report")
	nftproxy := flags.String("nftproxy", "bin/nftproxy", "nftproxy's executable `file`")
	kubeProxy := flags.String("kube-proxy", "bin/kube-proxy", "kube-proxy's executable `file`")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unknown argument %q: bench takes flags, or 'compare OLD NEW' alone", flags.Arg(0))
	}
	if os.Geteuid() != 0 {
		return errors.New("it makes network namespaces and runs kube-proxy: run it as root")
	}
	plan := fullPlan()
	if *quick {
		plan = quickPlan()
	}
	b, err := newBench(plan, programs{*nftproxy, *kubeProxy}, *out, *resume)
	if err != nil {
		return err
	}
	return b.run(ctx, os.Stdout)
}

// compare says what got slower between two runs: exit code 1 if nftproxy did.
func compare(files []string) int {
	if len(files) != 2 {
		fmt.Fprintln(os.Stderr, "usage: bench compare OLD/results.json NEW/results.json")
		return 2
	}
	before, err := report.Load(files[0])
	if err == nil {
		var after *report.Results
		if after, err = report.Load(files[1]); err == nil {
			if report.WriteComparison(os.Stdout, before, after) > 0 {
				return 1
			}
			return 0
		}
	}
	fmt.Fprintln(os.Stderr, "bench:", err)
	return 2
}
