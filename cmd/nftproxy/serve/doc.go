// SPDX-License-Identifier: Apache-2.0

// Package serve is what a running nftproxy serves over HTTP: the servers at kube-proxy's addresses
// and at the one for probes, kube-proxy's pages, and the metrics that are read from the kernel when
// they are asked for.
package serve
