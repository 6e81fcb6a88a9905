// SPDX-License-Identifier: Apache-2.0

// Package kubeproxy is about the other proxy: whether kube-proxy runs on this node, what it left, and
// the removal of that.
package kubeproxy
