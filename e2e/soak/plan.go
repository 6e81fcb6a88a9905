// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import "time"

// plan is what a run does, and how often.
type plan struct {
	Length      time.Duration `json:"length"`
	Services    int           `json:"services"`
	Changes     int           `json:"changes"`     // a second
	Connections int           `json:"connections"` // new ones a second
	Open        int           `json:"open"`        // connections that stay
	Foreign     time.Duration `json:"foreign"`     // between two changes of another program's
	Restarts    time.Duration `json:"restarts"`    // between two restarts of the API server
	Away        time.Duration `json:"away"`        // how long there is none at least
	// Settled is when memory is looked at first, for so long; later it may not be much more.
	Settled time.Duration `json:"settled"`
}

// fullPlan is what the documentation has figures of.
func fullPlan(minutes float64) plan {
	return plan{
		Length: time.Duration(minutes * float64(time.Minute)), Services: 5000, Changes: 200, Connections: 200, Open: 50,
		Foreign: time.Second, Restarts: 5 * time.Minute, Away: 5 * time.Second, Settled: time.Minute,
	}
}

// smallestPlan has everything in it, for a test.
func smallestPlan() plan {
	return plan{
		Length: 30 * time.Second, Services: 160, Changes: 100, Connections: 100, Open: 12,
		Foreign: 250 * time.Millisecond, Restarts: 10 * time.Second, Away: time.Second, Settled: 5 * time.Second,
	}
}

// sampling is the time between two samples: at most some hundred lines of a plot.
func (p plan) sampling() time.Duration {
	return min(max(p.Length/360, time.Second), 10*time.Second)
}

// What a run has to hold.
const (
	// mostMemory is how often the memory of the time when it had settled.
	mostMemory = 1.1
	// mostLate is how long an endpoint may get connections after the API server confirmed that it is gone, or is back:
	// clients wait before they try again, longer each time.
	mostLate = 30 * time.Second
	// leastPace is the part of the planned pace of changes and connections below which a run proves nothing.
	leastPace = 0.9
)
