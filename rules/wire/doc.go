// SPDX-License-Identifier: Apache-2.0

// Package wire translates between the objects of package rules and nf_tables' netlink messages. It is pure: package
// nfnetlink carries the messages, and packages rules/kernel and rules/inspect decide which.
//
// A Batch is a transaction as messages; its Object tells which object an error of the kernel is about. Get... are
// requests, and Parse... read what the kernel answers. A rule is read by guessing its statements from the first
// expressions, encoding the guesses and comparing: what would not be written just so is unknown, so it is never ours.
//
// `nft --debug=netlink list ruleset` shows the expressions that rules consist of.
package wire

// TraceTable holds the rules that choose what is traced. It belongs to the socket that
// made it (kernel 5.12): it goes with it, however this program ends.
const TraceTable = "nftproxy-trace"
