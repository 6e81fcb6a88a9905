// SPDX-License-Identifier: Apache-2.0

// Command kube-proxy is Kubernetes' own, built from its source: an executable that has nothing
// else in it, so that its memory and its start can be measured.
package main

import (
	"os"

	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	"k8s.io/kubernetes/cmd/kube-proxy/app"
)

func main() { os.Exit(cli.Run(app.NewProxyCommand())) }
