// SPDX-License-Identifier: Apache-2.0

// Package cluster runs a whole Kubernetes cluster on one machine, for tests: the
// control plane of package controlplane with its scheduler, and nodes that each have
// a real kubelet, containerd, runc and CNI plugins, in namespaces of their own.
//
//	outside 172.18.0.1 (API server) ── bridge ─┬─ node1 172.18.0.2, pods 10.244.1.0/24
//	                                           └─ node2 172.18.0.3, pods 10.244.2.0/24
//
// Each address has an IPv6 sibling. There is no kube-proxy: Services work through
// nftproxy's DaemonSet, installed from deploy/nftproxy.yaml, or not at all.
//
// A node is a process tree in a PID, mount, network, UTS and IPC namespace. Its first
// process is this binary, executed again; when that ends, in whatever way, the kernel
// ends the rest and forgets the mounts. Files are below one temporary folder, and
// control groups below one group of each hierarchy; Stop removes both.
//
// It needs root, Debian's runc and containernetworking-plugins, and the programs that
// `make e2e-cluster` builds. The module is apart from the main one because it needs all
// of k8s.io/kubernetes and containerd.
package cluster
