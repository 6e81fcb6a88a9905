// SPDX-License-Identifier: Apache-2.0

// Package rulestest has what tests of the data plane share: a kernel in memory
// that checks transactions and can be told to refuse some, and random sets of service
// ports.
package rulestest
