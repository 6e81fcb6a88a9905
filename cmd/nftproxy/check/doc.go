// SPDX-License-Identifier: Apache-2.0

// Package check says whether a node is ready for nftproxy: a line for each thing, with what to do where something is amiss.
//
// It looks at the kernel's nftables and each feature of it that the rules use, at connection tracking and forwarding, at software
// that competes, and at the source of Services. It changes nothing, but for a table of its own for a moment.
package check
