// SPDX-License-Identifier: Apache-2.0

// Package listen is for those who listen at addresses that somebody else may have: they try again
// until an address can be had, and tell of it once.
package listen
