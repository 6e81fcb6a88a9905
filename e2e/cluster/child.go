// SPDX-License-Identifier: Apache-2.0

//go:build linux

package cluster

import (
	"context"
	"fmt"
	"os"

	"k8s.io/component-base/cli"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"

	"github.com/nftproxy/nftproxy/e2e/controlplane"
)

// childEnv is set in the environment of each process that is this binary again.
const childEnv = "NFTPROXY_CLUSTER_CHILD"

// What such a process is.
const (
	childNode    = "node" // the first process of a node
	childKubelet = "kubelet"
)

// RunChild does the work that this process was started for and exits. In a process
// that this package did not make it returns at once. It must come before anything else
// in main or TestMain.
func RunChild() {
	controlplane.RunChild()
	switch name := os.Getenv(childEnv); name {
	case "":
	case childNode:
		fmt.Fprintln(os.Stderr, "node:", runNode())
		os.Exit(1)
	case childKubelet:
		os.Exit(cli.Run(kubelet.NewKubeletCommand(context.Background())))
	default:
		fmt.Fprintf(os.Stderr, "run child: unknown %q in %s\n", name, childEnv)
		os.Exit(1)
	}
}
