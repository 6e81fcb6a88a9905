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

	"github.com/nftproxy/nftproxy/e2e/netns"
)

func main() { os.Exit(run()) }

// run carries out the command line and returns the exit code.
func run() int {
	o, err := parseOptions(os.Args[1:], os.Stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		fmt.Fprintf(os.Stderr, "demo: %v\n", err)
		return 1
	}
	return netns.Main(func() int {
		ctx, stop := signal.NotifyContext(context.Background(), endings()...)
		defer stop()
		return show(ctx, o, os.Stdout, os.Stderr)
	})
}

// endings lists the signals that end the demo cleanly: SIGPIPE, too, which comes
// when the reader of its output goes away.
func endings() []os.Signal {
	list := []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGPIPE}
	if !signal.Ignored(syscall.SIGHUP) { // nohup must stay nohup
		list = append(list, syscall.SIGHUP)
	}
	return list
}
