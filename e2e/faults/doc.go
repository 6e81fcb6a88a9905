// SPDX-License-Identifier: Apache-2.0

// Package faults shows what users of Services notice while something goes wrong with nftproxy or around it. Each test
// names a fault, does it while traffic is running, and records a Result: how many connections were made, how many
// failed or stalled, how many open ones were lost, and how long it took until the kernel was right again.
//
//	make faults                  # all of it, as root; writes the table in docs/reliability.md
//	go test ./e2e/faults         # the short part of each row, which `make test` runs
//
// NFTPROXY_FAULTS says how much is done: part (a few minutes, what .ci/run does) or all; without it, it is seconds. With
// NFTPROXY_FAULTS_RESULTS each Result is added to that file, as a line of JSON; the command e2e/faults/report makes
// the table of them.
//
// Load is traffic that goes on whatever happens. e2e/controlplane uses this package too: its rows have a real API
// server, with a Proxy before it that injects faults, or a live kube-proxy.
package faults
