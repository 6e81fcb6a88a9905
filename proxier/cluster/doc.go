// SPDX-License-Identifier: Apache-2.0

// Package cluster knows what the cluster's objects ask for of this node.
//
//	source ── objects ──> Sink ── compact form ──> store ── changed owners ──> Take, Input
//
// A Sink takes Services, EndpointSlices, Nodes and ServiceCIDRs as they come, from any goroutine, and keeps of them what
// proxying needs. It notes which owners (a service port in one family) each change is about. Who programs the kernel
// takes the changed owners, asks for the Input of each, and puts back what it could not program.
//
// Kubernetes' types end here: what comes out are values of package rules, and names. The package does not log, and does
// no I/O: what somebody should know of an object comes out as a Fault, and a frontend that a service port does
// without as a Conflict of its Input.
//
// Invariant: an owner whose Input has changed since it was last taken is among those that are taken next.
package cluster
