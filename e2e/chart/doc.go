// SPDX-License-Identifier: Apache-2.0

// Package chart renders the Helm chart of deploy/chart, without helm and without a
// cluster. Its program, in render, writes deploy/nftproxy.yaml.
//
// The module is apart from the main one because of Helm.
package chart
