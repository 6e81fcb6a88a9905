// SPDX-License-Identifier: Apache-2.0

// Command shape counts how large and how entangled the code is, without its tests: fields of structs,
// methods of types, lines of files and functions, arrows between the files of a package that
// close a circle, and files to touch for another statement, scheduler, kind of set or field of a Service.
//
//	go run ./internal/shape [-top 3] [-v] [PACKAGE...]
//
// An arrow points from a file to another one of its package that declares a name which the first one
// uses. Files are put into the order in which the fewest arrows point up; those are the upward ones.
//
// A file is to be touched for another one if it lists them: it names three quarters of those that there are. So is each file that
// names the one which the fewest files name: that one does no more than each must. Of a kind of set and a statement the file whose
// rules use it is shown, but not counted.
//
// Its test holds the limits.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("shape", flag.ContinueOnError)
	flags.SetOutput(stderr)
	top := flags.Int("top", 3, "how many of the largest are shown, besides those over the limit")
	verbose := flags.Bool("v", false, "show the names that make each upward arrow")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	patterns := flags.Args()
	if len(patterns) == 0 {
		patterns = []string{"./..."}
	}
	pkgs, err := load(".", patterns...)
	if err != nil {
		fmt.Fprintln(stderr, "shape:", err)
		return 1
	}
	for _, k := range kinds() {
		report(stdout, k, measured(k, pkgs), *top, *verbose)
	}
	fmt.Fprintln(stdout, "files to touch for another one")
	for _, f := range touches(pkgs) {
		fmt.Fprintf(stdout, "  %5d  %s (limit %d): %s\n", f.n, f.name, limitOf(f.name), strings.Join(f.why, ", "))
	}
	return 0
}

// report shows the figures over the limit, and some of the largest.
func report(w io.Writer, k kind, all []figure, top int, verbose bool) {
	fmt.Fprintf(w, "%s (limit %d)\n", k.title, k.limit)
	for i, f := range all {
		over := f.n > k.limit && k.limited(f.name)
		if i >= top && !over {
			continue
		}
		mark := ""
		if over {
			mark = "  over"
		}
		fmt.Fprintf(w, "  %5d  %s%s\n", f.n, f.name, mark)
		for _, line := range f.why {
			if verbose {
				fmt.Fprintf(w, "           %s\n", line)
			}
		}
	}
}
