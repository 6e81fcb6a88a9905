// SPDX-License-Identifier: Apache-2.0

// Package kernel holds the state of package rules in the running kernel's
// nftables: it turns transactions into netlink batches and reads tables back. It
// is the only package that knows netlink messages, handles and sockets.
//
// A transaction goes out as one batch in one sendmsg, and the kernel carries it
// out whole or not at all. Only one that does not fit the socket's send buffer is
// cut into several, between operations, in the order of rules.Tx, which keeps
// every step in working order. The limit is maxBatch, and maxReset where a table is replaced; without CAP_NET_ADMIN in the
// initial user namespace it is twice net.core.wmem_max, some 400 kB by default.
//
// The socket belongs to the network namespace of the thread that called Open, and
// stays there.
//
// `nft --debug=netlink list ruleset` shows the expressions that rules consist of,
// `strace -e trace=sendto,recvfrom` the messages.
package kernel
