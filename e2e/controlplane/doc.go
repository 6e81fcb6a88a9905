// SPDX-License-Identifier: Apache-2.0

// Package controlplane runs a real Kubernetes control plane for tests: etcd,
// kube-apiserver, and those controllers of kube-controller-manager that turn
// Services and Pods into EndpointSlices. There is no kubelet and no scheduler:
// Pods are objects with a node name and a status that the test writes.
//
// The servers are linked into the test binary, so nothing has to be installed.
// Each runs in a child process, which is the same binary executed again: the
// servers keep flags, feature gates and metrics in globals of their process.
// Therefore a program that calls [Start] must call [RunChild] before anything
// else:
//
//	func TestMain(m *testing.M) {
//		controlplane.RunChild()
//		os.Exit(m.Run())
//	}
//
// The children can live in a network namespace of the test's choice; clients
// made by this package dial from inside that namespace. The children die with
// the process that started them, however that one ends.
//
// The module is apart from the main one because it needs all of
// k8s.io/kubernetes. Linux only; entering a namespace needs CAP_SYS_ADMIN.
package controlplane
