// SPDX-License-Identifier: Apache-2.0

// Package app is the command nftproxy: its subcommands, flags and exit codes. It
// is apart from package main so that tests can run the very program in a process
// of their own, and it is the only place that knows both a source of Services and
// the kernel.
package app
