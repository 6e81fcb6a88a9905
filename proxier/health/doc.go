// SPDX-License-Identifier: Apache-2.0

// Package health answers those who decide where to send connections: load
// balancers that ask whether this node has endpoints of a Service
// (healthCheckNodePort), and whoever asks whether nftproxy works and the node stays
// (/healthz, /livez), or whether all is programmed (/readyz). Bodies, status codes and
// headers are kube-proxy's.
package health
