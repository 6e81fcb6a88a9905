// SPDX-License-Identifier: Apache-2.0

// Package spreads counts where the kernel sends connections, for each scheduler: many thousand in a namespace of its own,
// whose node answers for all endpoints itself. Its tests check shares and orders, and with -update draw the pictures of
// docs/schedulers.md from what was counted.
package spreads
