// SPDX-License-Identifier: Apache-2.0

// Package proxier keeps the kernel's rules equal to what the cluster's Services
// and EndpointSlices ask for. It has three parts:
//
//	source ── objects ──> cluster.Sink
//	                          │ Take, Input: values
//	                          v
//	   Run ── syncer ──> programmer ── rules.Tx ──> Kernel.Apply
//	                          │ outcome
//	                          v
//	                      follower ──> log, Events, metrics, health checks, loopback ports, conntrack
//
// The cluster knows what is asked for: see package cluster. It hears of objects at any time, and has a lock of its own.
//
// The programmer makes the kernel hold that. It takes objects of owners (a service port in one family), commits the
// difference, and returns an outcome. What changes meanwhile waits for the next commit, and for nothing else. The first
// commit, after all full lists are in, is made against what the kernel holds already: a restart writes only what differs.
// The programmer has no lock, no log and no metrics, and knows nothing of Kubernetes.
//
// The follower tells everybody what has become of the changes.
//
// While another process writes the tables (Foreign.Turn) the programmer's desired is kept as it should be, and the syncer
// knows where the kernel differs: to take over is then to compare just that.
//
// The syncer takes changes from one part to the next. All of this runs in Run's goroutine. At a first load transactions are
// applied in a second one, while the first builds. Others delete stale flows, count open connections (the tuner), and free
// connections from endpoints that do not answer (the rescuer, which writes elements of sets that packets fill, and nobody else does).
//
// Invariant of the programmer: once the kernel is adopted, it holds between two operations what desired says, or unequal says why
// it may not.
// A commit that the kernel refuses is taken back from desired, the kernel is compared and repaired where it may have
// changed, and the owners whose objects it refused are set aside and tried again with growing intervals, while all
// others go on.
//
// A file uses only what is below it:
//
//	snapshot.go, look.go                            what is told to who asks
//	proxier.go                                      Run: the loop
//	sync.go, standby.go, nodewait.go                the order of things
//	rescue*.go, watched.go, tune.go                 connections without an answer, and open ones
//	follow.go, flows.go, conflicts.go, health.go …  the follower
//	build.go, nolocal.go, localports.go             from an Input to objects, and what else comes of them
//	program.go, load.go, compare.go, takeover.go,
//	apiserver.go                                    the programmer's operations
//	kernel.go, refusal.go                           what they have in common
//	repairs.go, readback.go, metrics.go, timers.go  used above
package proxier
