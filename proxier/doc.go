// SPDX-License-Identifier: Apache-2.0

// Package proxier keeps the kernel's rules equal to what the cluster's Services
// and EndpointSlices ask for.
//
//	source ── objects ──> store ── changed owners ──> rules.Build ──> rules.Desired
//	                                                                     │ rules.Tx
//	                         conntrack <── done ── Kernel.Apply <────────┘
//
// A Proxier is the sink of a source: each call stores a compact form of an object
// and notes which owners (a service port in one family) it changes. Run, in one
// goroutine, takes the changed owners, builds their objects and commits the
// difference; what changes meanwhile waits for the next commit, and for nothing
// else. The first commit, after both full lists are in, is made against what the
// kernel holds already: a restart writes only what differs.
//
// Invariant: Desired is what the kernel holds whenever no commit is running. A
// commit that the kernel refuses is taken back from Desired, the kernel is read
// and repaired, and the owners whose objects it refused are set aside and tried
// again with growing intervals, while all others go on.
package proxier
