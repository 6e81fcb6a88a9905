// SPDX-License-Identifier: Apache-2.0

// Bench compares nftproxy with kube-proxy in nftables and in iptables mode: on one
// API server, with the same objects, in the same namespaces, one after the other in
// alternating order.
//
//	bench [-quick] [-resume] [-out DIR] [-nftproxy FILE] [-kube-proxy FILE]
//	bench compare OLD/results.json NEW/results.json
//
// It runs as root. kube-proxy is Kubernetes' own, built from package kubeproxy here; the control plane is
// linked into the program, whose children are the same executable again. All traffic is real, and all of
// it stays inside namespaces. Those end with the processes in them, and these with the program, however it
// ends; but only where it is not killed does it also remove its folder in the temporary directory and its
// empty control group.
package main
