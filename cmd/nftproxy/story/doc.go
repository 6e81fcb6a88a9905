// SPDX-License-Identifier: Apache-2.0

// Package story makes out of the kernel's traces what became of connections: where they were sent, and whether they were
// answered, refused, dropped or lost, and by whom.
//
// It is pure: Follower takes events and the time, and asks for tracked connections. The destination and the source are read
// from the headers that events carry, at the start of each base chain; the trace's own chains at each hook see to it that there
// is one before and after all others. A connection's first packet is followed through this node, the loopback interface
// included, and so are the answer to it, a reset and an ICMP error.
package story
