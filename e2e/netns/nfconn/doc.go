// SPDX-License-Identifier: Apache-2.0

// Package nfconn opens connections of package nftables that work beside a thousand open sockets. That package itself waits for
// its socket with pselect, whose sets of descriptors end at 1,023: where a test has more connections open it panics.
package nfconn
