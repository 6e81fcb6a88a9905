// SPDX-License-Identifier: Apache-2.0

// Package ask is how the nftproxy that runs on a node is asked: JSON over HTTP at a Unix socket, for root and for the user that
// it runs as. docs/api.md has the paths. Answers come from memory. The loop that programs the kernel waits for none of them: they
// are made from copies of one Service after the other. What one client can take is bounded: connections, time, and the size of
// an answer.
package ask
