// SPDX-License-Identifier: Apache-2.0

//go:build testclock

// Command clocked is nftproxy with a wall clock that can be put forward and back while it runs: by as much as the file says
// whose name is in NFTPROXY_TEST_CLOCK. It builds only with the package time of e2e/faults' TestClock.
package main

import (
	"fmt"
	"os"
	"time"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/app"
)

// look is the time between two looks at the file.
const look = 5 * time.Millisecond

func main() {
	go follow(os.Getenv("NFTPROXY_TEST_CLOCK"))
	os.Exit(app.Main("test"))
}

// follow sets the clock as a file says.
func follow(path string) {
	for ; ; time.Sleep(look) {
		text, _ := os.ReadFile(path) // there is none before the first jump
		d, err := time.ParseDuration(string(text))
		if seconds := int64(d / time.Second); err == nil && time.TestOffset.Swap(seconds) != seconds {
			fmt.Fprintf(os.Stderr, "the clock is off by %v\n", d)
		}
	}
}
