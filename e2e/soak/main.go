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
	"path/filepath"
	"syscall"
	"time"

	"github.com/nftproxy/nftproxy/e2e/controlplane"
)

func main() {
	controlplane.RunChild()
	// Ctrl-C ends the run, with everything taken down; a second one at once.
	list := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) { // nohup must stay nohup
		list = append(list, syscall.SIGHUP)
	}
	ctx, stop := signal.NotifyContext(context.Background(), list...)
	context.AfterFunc(ctx, stop)
	if err := command(ctx, os.Args[1:]); err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, "soak:", err)
		}
		os.Exit(1)
	}
}

// errFailed is that of a run that found something.
var errFailed = errors.New("failed: see the report")

func command(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("soak", flag.ContinueOnError)
	minutes := flags.Float64("minutes", 20, "how long the load goes on, in `minutes`; less than 3 say nothing about memory")
	smallest := flags.Bool("smallest", false, "everything in half a minute, for a test")
	services := flags.Int("services", 5000, "how many Services there are")
	restarts := flags.Duration("restarts", 5*time.Minute, "time between two restarts of the API server")
	out := flags.String("out", "soak-report", "`folder` of the report")
	program := flags.String("nftproxy", "bin/nftproxy", "nftproxy's executable `file`")
	page := flags.String("page", "", "also put the table into this `file`, between "+pageBegin+" and "+pageEnd)
	from := flags.String("from", "", "run nothing: make the report of an earlier run anew from its `file` "+resultsFile)
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unknown argument %q: soak takes flags only", flags.Arg(0))
	}
	var res *results
	var err error
	switch {
	case *from != "":
		res, err = load(*from)
	case *minutes <= 0, *services < 160, *services > 30000, *restarts < 10*time.Second:
		return fmt.Errorf("-minutes %v -services %d -restarts %s: want more than 0, from 160 to 30000, and 10s at least", *minutes, *services, *restarts)
	case *smallest:
		res, err = runPlan(ctx, smallestPlan(), *program)
	default:
		p := fullPlan(*minutes)
		p.Services, p.Restarts = *services, *restarts
		res, err = runPlan(ctx, p, *program)
	}
	if res == nil {
		return err
	}
	err = errors.Join(err, res.write(*out))
	for _, row := range res.Rows {
		mark := "  "
		if row.Bad {
			mark = "! "
		}
		fmt.Printf("%s%s: %s\n", mark, row.What, cell(row.Found))
	}
	fmt.Printf("%s; %s\n", res.verdict(), filepath.Join(*out, "index.html"))
	if err == nil && *page != "" {
		err = res.publish(*page)
	}
	if err == nil && !res.passed() {
		err = errFailed
	}
	return err
}

func runPlan(ctx context.Context, p plan, program string) (*results, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("it makes network namespaces: run it as root")
	}
	if _, err := os.Stat(program); err != nil {
		return nil, fmt.Errorf("find nftproxy (make soak builds it): %w", err)
	}
	program, err := filepath.Abs(program)
	if err != nil {
		return nil, err
	}
	return soak(ctx, p, program, os.Stdout)
}
