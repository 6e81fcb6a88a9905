// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"net/netip"
	"strconv"
	"strings"
)

// etcdURL is relative to the working directory of all children, because the
// path of a Unix socket has at most 107 bytes. The API server's check whether
// etcd can be reached dials the host part, so the name must be there.
const (
	etcdSocket = "etcd.sock"
	etcdURL    = "unix://" + etcdSocket
)

// The address ranges of ClusterIPs.
const (
	ServiceRange4 = "10.96.0.0/16"
	ServiceRange6 = "fd00:10:96::/112"
)

// serviceRanges lists the ranges of ClusterIPs. The first must be of the family of the API
// server's own address: the Service 'kubernetes' gets its ClusterIP there.
func serviceRanges(address netip.Addr) string {
	if address.Is6() {
		return ServiceRange6 + "," + ServiceRange4
	}
	return ServiceRange4 + "," + ServiceRange6
}

// apiServerArgs is the command line of kube-apiserver. Paths are relative to
// the working directory.
func apiServerArgs(at endpoint) []string {
	args := []string{
		"--etcd-servers=" + etcdURL,
		"--bind-address=" + at.bind.String(),
		"--secure-port=" + strconv.Itoa(int(at.serve.Port())),
		"--advertise-address=" + at.serve.Addr().String(),
		"--cert-dir=.",
		"--tls-cert-file=" + serverCertFile,
		"--tls-private-key-file=" + serverKeyFile,
		"--client-ca-file=" + caFile,
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + tokenKeyFile,
		"--service-account-signing-key-file=" + tokenKeyFile,
		"--service-cluster-ip-range=" + serviceRanges(at.serve.Addr()),
		"--authorization-mode=Node,RBAC",
		"--allow-privileged=true",
		"--kubelet-preferred-address-types=InternalIP", // no DNS server knows the nodes' names
		"--profiling=false",
	}
	if at.serve.Addr().IsLoopback() {
		// A loopback address is not valid in the EndpointSlice of the Service 'kubernetes'.
		args = append(args, "--endpoint-reconciler-type=none")
	}
	return args
}

// workloadControllers are needed besides where Pods run.
var workloadControllers = []string{
	"daemonset-controller",
	"deployment-controller",
	"node-lifecycle-controller",
	"pod-garbage-collector-controller",
	"replicaset-controller",
	"taint-eviction-controller",
}

// controllerArgs is the command line of kube-controller-manager: the
// controllers that Services, EndpointSlices and their namespaces need, and with
// workloads those of Pods and Nodes.
// The garbage collector removes the slices of a deleted Service.
func controllerArgs(kubeconfig string, workloads bool) []string {
	controllers := []string{
		"endpointslice-controller",
		"endpointslice-mirroring-controller",
		"garbage-collector-controller",
		"namespace-controller",
		"root-ca-certificate-publisher-controller",
		"serviceaccount-controller",
		"serviceaccount-token-controller",
	}
	if workloads {
		controllers = append(controllers, workloadControllers...)
	}
	return []string{
		"--kubeconfig=" + kubeconfig,
		"--controllers=" + strings.Join(controllers, ","),
		"--use-service-account-credentials=true",
		"--service-account-private-key-file=" + tokenKeyFile,
		"--root-ca-file=" + caFile,
		"--leader-elect=false",
		"--secure-port=0",
		"--profiling=false",
		"--kube-api-qps=1000",
		"--kube-api-burst=2000",
	}
}

// schedulerArgs is the command line of kube-scheduler.
func schedulerArgs(kubeconfig string) []string {
	return []string{
		"--kubeconfig=" + kubeconfig,
		"--leader-elect=false",
		"--secure-port=0",
		"--profiling=false",
	}
}
