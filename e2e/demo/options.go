// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// options are those of the command line.
type options struct {
	bin  string // nftproxy
	keep bool   // stay until a signal comes
	name string // what the names of kept namespaces begin with
	from string // directory of manifests; empty: the built-in ones
}

func parseOptions(args []string, stderr io.Writer) (options, error) {
	var o options
	fs := flag.NewFlagSet("demo", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.StringVar(&o.bin, "bin", "bin/nftproxy", "the nftproxy `program`")
	fs.BoolVar(&o.keep, "keep", false, "keep the cluster up until Ctrl-C, and tell how to enter it")
	fs.StringVar(&o.name, "name", "nftproxy-demo", "`prefix` of the names that --keep gives to the namespaces, if root runs it")
	fs.StringVar(&o.from, "manifests", "", "`directory` of Services and EndpointSlices to use instead of the built-in ones")
	if err := fs.Parse(args); err != nil {
		return o, err
	}
	if fs.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q: see --help", fs.Arg(0))
	}
	return o, o.complete()
}

// complete makes the program's path absolute, for the commands that --keep prints.
func (o *options) complete() error {
	path, err := filepath.Abs(o.bin)
	if err != nil {
		return fmt.Errorf("find nftproxy: %w", err)
	}
	if _, err := os.Stat(path); err != nil {
		return fmt.Errorf("find nftproxy: %w: run `make build`, or name the program with --bin", err)
	}
	o.bin = path
	return nil
}
