// SPDX-License-Identifier: Apache-2.0

// Package kernel keeps the state of package rules in the running kernel's nftables: a Kernel reads tables, applies
// transactions and watches for what others change. Package rules/wire translates to and from messages, package
// nfnetlink carries them, and package rules/inspect looks at the rest of nftables.
//
// A transaction goes out as one batch in one sendmsg, and the kernel carries it
// out whole or not at all. Only one that does not fit the socket's send buffer is
// cut into several, between operations, in the order of rules.Tx, which keeps
// every step in working order. The limit is maxBatch, and maxReset where a table is replaced; without CAP_NET_ADMIN in
// the initial user namespace it is twice net.core.wmem_max, some 400 kB by default.
//
// The sockets belong to the network namespace of the thread that called Open, and stay there. All writing goes over one
// of them, whose port does not change until Close: by it the kernel tells our commits from others'.
package kernel
