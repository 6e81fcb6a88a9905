// SPDX-License-Identifier: Apache-2.0

// Package compare says where kube-proxy's rules on a node and nftproxy's send connections differently, by following the first packet of
// each through both: package rules/foreign has kube-proxy's, and package explain ours.
package compare
