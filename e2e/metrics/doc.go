// SPDX-License-Identifier: Apache-2.0

// Package metrics checks the dashboard and the alerts in deploy against a running
// nftproxy: every expression is parsed by Prometheus' own parser, and every metric and
// label in it must be among those that nftproxy exposes when it serves real objects.
//
// The module is apart from the main one because of Prometheus.
package metrics
