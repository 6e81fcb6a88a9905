// SPDX-License-Identifier: Apache-2.0

package config

import proxyconfig "k8s.io/kube-proxy/config/v1alpha1"

// Config is kube-proxy's configuration file, kubeproxy.config.k8s.io/v1alpha1.
type Config = proxyconfig.KubeProxyConfiguration

// The ports of /healthz and /metrics, unless an address has one.
const (
	healthzPort = 10256
	metricsPort = 10249
)

// The values of mode. Nftables are programmed whatever it is.
const (
	modeIPTables = "iptables"
	modeIPVS     = "ipvs"
	ModeNFTables = "nftables"
)

// The values of detectLocalMode: how pods are told from others.
const (
	DetectClusterCIDR     = "ClusterCIDR"
	DetectNodeCIDR        = "NodeCIDR"
	DetectBridgeInterface = "BridgeInterface"
	DetectInterfacePrefix = "InterfaceNamePrefix"
)

// GateExternalIPs is the feature gate that lets Services have externalIPs (KEP-5707).
const GateExternalIPs = "AllowServiceExternalIPs"
