// SPDX-License-Identifier: Apache-2.0

// Package host is what a run does to the machine and its own process besides programming nftables:
// the settings of connection tracking, the OOM score, the memory limit; and which families of
// addresses the node has.
package host
