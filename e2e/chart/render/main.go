// SPDX-License-Identifier: Apache-2.0

// Render writes the plain manifests of the chart:
//
//	render CHART-FOLDER FILE
package main

import (
	"fmt"
	"os"

	"github.com/nftproxy/nftproxy/e2e/chart"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "render:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("want the chart's folder and the file to write, got %q", args)
	}
	text, err := chart.Plain(args[0])
	if err != nil {
		return err
	}
	return os.WriteFile(args[1], []byte(text), 0o644)
}
