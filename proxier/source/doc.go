// SPDX-License-Identifier: Apache-2.0

// Package source feeds Services, EndpointSlices, Nodes and ServiceCIDRs into a Sink. It has two sources:
//
//   - Cluster lists and watches them at an API server, with the selectors of kube-proxy.
//   - Package manifests reads them from the files of a directory and follows its changes.
//
// Both speak the same interface, so that whatever consumes the objects does not know where they come from.
// A source keeps as little as it can: Cluster keeps nothing at all.
package source
