// SPDX-License-Identifier: Apache-2.0

// Package scale measures nftproxy in large clusters: from decoded Services and
// EndpointSlices, given to the proxier as a source gives them, to the kernel's
// commit, in a network namespace of its own.
//
//	go test -run '^$' -bench . ./e2e/scale
//
// Full loads print how they compare with the kernel's own time for the same
// transaction in the same run (load/floor); changes print the median and the 99th
// percentile.
package scale
