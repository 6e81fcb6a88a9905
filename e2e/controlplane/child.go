// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"fmt"
	"net/url"
	"os"

	"go.etcd.io/etcd/server/v3/embed"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/metrics/prometheus/clientgo" // as in the servers' own main packages
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
)

// childEnv is set in the environment of each child to the server it runs.
const childEnv = "NFTPROXY_CONTROLPLANE_CHILD"

// The servers, named as their log files and processes are.
const (
	etcdServer       = "etcd"
	apiServer        = "kube-apiserver"
	controllerServer = "kube-controller-manager"
	schedulerServer  = "kube-scheduler"
)

// RunChild runs the server that this process was started for and exits with
// its status. In a process that [Start] did not make it returns at once.
// It must come before anything else in main or TestMain.
func RunChild() {
	switch name := os.Getenv(childEnv); name {
	case "":
		return
	case etcdServer:
		os.Exit(exitCode(runEtcd()))
	case apiServer:
		os.Exit(cli.Run(apiserver.NewAPIServerCommand()))
	case controllerServer:
		os.Exit(cli.Run(controllermanager.NewControllerManagerCommand()))
	case schedulerServer:
		os.Exit(cli.Run(scheduler.NewSchedulerCommand()))
	default:
		os.Exit(exitCode(fmt.Errorf("run child: unknown server %q in %s", name, childEnv)))
	}
}

func exitCode(err error) int {
	if err == nil {
		return 0
	}
	fmt.Fprintln(os.Stderr, err)
	return 1
}

// runEtcd serves etcd on a socket in the working directory until it fails.
func runEtcd() error {
	config, err := etcdConfig()
	if err != nil {
		return err
	}
	server, err := embed.StartEtcd(config)
	if err != nil {
		return fmt.Errorf("start etcd: %w", err)
	}
	return fmt.Errorf("run etcd: %w", <-server.Err())
}

// etcdConfig keeps data and sockets in the working directory. Nothing is
// synced to disk: the data is thrown away with the directory.
func etcdConfig() (*embed.Config, error) {
	client, err := url.Parse(etcdURL)
	if err != nil {
		return nil, fmt.Errorf("parse etcd's client address: %w", err)
	}
	peer, err := url.Parse("unix://peer.sock:0")
	if err != nil {
		return nil, fmt.Errorf("parse etcd's peer address: %w", err)
	}
	config := embed.NewConfig()
	config.Dir = "etcd"
	config.UnsafeNoFsync = true
	config.LogLevel = "warn"
	config.ListenClientUrls = []url.URL{*client}
	config.AdvertiseClientUrls = []url.URL{*client}
	config.ListenPeerUrls = []url.URL{*peer}
	config.AdvertisePeerUrls = []url.URL{*peer}
	config.InitialCluster = config.InitialClusterFromName(config.Name)
	return config, nil
}
