// SPDX-License-Identifier: Apache-2.0

// Package proxy runs nftproxy as a process of its own in a network namespace, and
// gives it a directory of manifests: the program as its users have it, under
// tests and the demo.
package proxy
