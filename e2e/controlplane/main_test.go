// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"os"
	"testing"

	"k8s.io/component-base/cli"
	kubeproxy "k8s.io/kubernetes/cmd/kube-proxy/app"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/app"
)

// kubeProxyEnv makes the test binary act as kube-proxy.
const kubeProxyEnv = "NFTPROXY_E2E_KUBE_PROXY"

func TestMain(m *testing.M) {
	if os.Getenv(runEnv) != "" {
		os.Exit(app.Main("test"))
	}
	if os.Getenv(kubeProxyEnv) != "" {
		os.Exit(cli.Run(kubeproxy.NewProxyCommand()))
	}
	RunChild()
	os.Exit(m.Run())
}
