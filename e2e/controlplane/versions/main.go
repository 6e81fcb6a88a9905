// SPDX-License-Identifier: Apache-2.0

// Versions is the control plane of another version of Kubernetes than that of e2e/controlplane, whose tests run it:
// etcd, kube-apiserver and kube-controller-manager, whichever the environment names. It takes the version from the file
// of requirements that it is built with: go.mod, or go-1.35.mod with -modfile. `make e2e-versions` builds all of them.
// The module requires nothing of nftproxy, which would raise the versions.
package main

import (
	"fmt"
	"net/url"
	"os"

	"go.etcd.io/etcd/server/v3/embed"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/metrics/prometheus/clientgo" // as in the servers' own main packages
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
)

// childEnv is e2e/controlplane's.
const childEnv = "NFTPROXY_CONTROLPLANE_CHILD"

func main() {
	switch name := os.Getenv(childEnv); name {
	case "etcd":
		fmt.Fprintln(os.Stderr, runEtcd())
		os.Exit(1)
	case "kube-apiserver":
		os.Exit(cli.Run(apiserver.NewAPIServerCommand()))
	case "kube-controller-manager":
		os.Exit(cli.Run(controllermanager.NewControllerManagerCommand()))
	default:
		fmt.Fprintf(os.Stderr, "versions: unknown server %q in %s: e2e/controlplane starts this program\n", name, childEnv)
		os.Exit(1)
	}
}

// runEtcd serves etcd on a socket in the working directory until it fails, as e2e/controlplane does.
func runEtcd() error {
	config := embed.NewConfig()
	config.Dir, config.LogLevel, config.UnsafeNoFsync = "etcd", "warn", true
	client, peer := url.URL{Scheme: "unix", Host: "etcd.sock"}, url.URL{Scheme: "unix", Host: "peer.sock:0"}
	config.ListenClientUrls = []url.URL{client} // etcd 3.6 advertises no socket; nobody asks what it advertises
	config.ListenPeerUrls, config.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
	config.InitialCluster = config.InitialClusterFromName(config.Name)
	server, err := embed.StartEtcd(config)
	if err != nil {
		return fmt.Errorf("start etcd: %w", err)
	}
	return fmt.Errorf("run etcd: %w", <-server.Err())
}
