// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"time"

	"github.com/nftproxy/nftproxy/e2e/bench/report"
)

// fullPlan takes at most 35 minutes on 2 cores.
func fullPlan() report.Plan {
	return report.Plan{
		Name: "full", Endpoints: 10, Rounds: 2,
		Sizes:           []int{1, 100, 1000, 10000},
		ControlSizes:    []int{100, 1000, 10000},
		DataSizes:       []int{1, 1000, 10000}, // 1,000 is where iptables ends
		DisruptionSizes: []int{1000, 10000},
		RollSizes:       []int{10000},
		Changes:         25, Burst: 500, Connects: 1000, Spread: 10000, Seconds: 2,
	}
}

// quickPlan takes 5 minutes.
func quickPlan() report.Plan {
	return report.Plan{
		Name: "quick", Endpoints: 10, Rounds: 1,
		Sizes:           []int{1, 1000},
		ControlSizes:    []int{1000},
		DataSizes:       []int{1, 1000},
		DisruptionSizes: []int{1000},
		Changes:         15, Burst: 100, Connects: 500, Spread: 2000, Seconds: 1,
	}
}

// smallestPlan has everything in it, for a test.
func smallestPlan() report.Plan {
	return report.Plan{
		Name: "smallest", Endpoints: 10, Rounds: 1,
		Sizes:           []int{1, 20},
		ControlSizes:    []int{20},
		DataSizes:       []int{1, 20},
		DisruptionSizes: []int{20},
		RollSizes:       []int{20},
		Changes:         3, Burst: 5, Connects: 20, Spread: 100, Seconds: 0.2,
	}
}

// patience is how long a proxy may take for a full sync: the report says so of one that
// does not make it, and it is not run with more Services.
const patience = 150 * time.Second

// window is how long a measurement goes on that counts what passes.
func window(p report.Plan) time.Duration { return time.Duration(p.Seconds * float64(time.Second)) }
