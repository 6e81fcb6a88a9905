// SPDX-License-Identifier: Apache-2.0

package app

import (
	proxyconfig "k8s.io/kube-proxy/config/v1alpha1"

	"github.com/nftproxy/nftproxy/conntrack"
)

// trackingSettings is what connection tracking is to be set to.
func trackingSettings(c *proxyconfig.KubeProxyConntrackConfiguration) conntrack.Settings {
	return conntrack.Settings{
		MaxPerCore: int(*c.MaxPerCore), Min: int(*c.Min),
		TCPEstablished: c.TCPEstablishedTimeout.Duration, TCPCloseWait: c.TCPCloseWaitTimeout.Duration, TCPBeLiberal: c.TCPBeLiberal,
		UDP: c.UDPTimeout.Duration, UDPStream: c.UDPStreamTimeout.Duration,
	}
}
