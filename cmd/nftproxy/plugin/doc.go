// SPDX-License-Identifier: Apache-2.0

// Package plugin is what makes nftproxy a plugin of kubectl: it finds the pods of nftproxy's DaemonSet, runs commands in them as
// `kubectl exec` does, and puts the answers of many nodes together.
package plugin
