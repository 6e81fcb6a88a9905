// SPDX-License-Identifier: Apache-2.0

package config

import (
	"net"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	logsapi "k8s.io/component-base/logs/api/v1"
	proxyconfig "k8s.io/kube-proxy/config/v1alpha1"
	netutils "k8s.io/utils/net"
	"k8s.io/utils/ptr"
)

// sectionOf returns the section that counts: the mode's, as for kube-proxy, unless only
// the other one is filled in.
func sectionOf(c *Config) string {
	iptables, ipvs := c.IPTables, c.IPVS.SyncPeriod.Duration != 0 || c.IPVS.MinSyncPeriod.Duration != 0
	iptables.LocalhostNodePorts = nil // it has no meaning here
	switch filled := iptables != (proxyconfig.KubeProxyIPTablesConfiguration{}); {
	case c.Mode == modeIPVS && (filled || ipvs):
		return modeIPVS
	case filled && (c.Mode != ModeNFTables || c.NFTables == (proxyconfig.KubeProxyNFTablesConfiguration{})):
		return modeIPTables
	}
	return ModeNFTables
}

// setDefaults fills in what is not given, as kube-proxy does, but for minSyncPeriod:
// nothing waits unless the file says so. What counts is in the section for nftables then.
func setDefaults(c *Config) {
	c.APIVersion, c.Kind = proxyconfig.SchemeGroupVersion.String(), "KubeProxyConfiguration"
	if section := sectionOf(c); section != ModeNFTables {
		t := c.IPTables
		c.NFTables = proxyconfig.KubeProxyNFTablesConfiguration{MasqueradeBit: t.MasqueradeBit, MasqueradeAll: t.MasqueradeAll,
			SyncPeriod: t.SyncPeriod, MinSyncPeriod: t.MinSyncPeriod}
		if section == modeIPVS {
			c.NFTables.SyncPeriod, c.NFTables.MinSyncPeriod = c.IPVS.SyncPeriod, c.IPVS.MinSyncPeriod
		}
	}
	orElse(&c.NFTables.MasqueradeBit, ptr.To[int32](14))
	orElse(&c.NFTables.SyncPeriod.Duration, 30*time.Second)
	orElse(&c.IPTables.LocalhostNodePorts, ptr.To(true))
	orElse(&c.ConfigSyncPeriod.Duration, 15*time.Minute)
	orElse(&c.BindAddress, "0.0.0.0")
	any, loopback := "0.0.0.0", "127.0.0.1"
	if strings.Contains(c.BindAddress, ":") {
		any, loopback = "::", "::1"
	}
	orElse(&c.HealthzBindAddress, any)
	orElse(&c.MetricsBindAddress, loopback)
	c.HealthzBindAddress = withPort(c.HealthzBindAddress, healthzPort)
	c.MetricsBindAddress = withPort(c.MetricsBindAddress, metricsPort)
	orElse(&c.OOMScoreAdj, ptr.To[int32](-999))
	orElse(&c.Conntrack.MaxPerCore, ptr.To[int32](32*1024))
	orElse(&c.Conntrack.Min, ptr.To[int32](128*1024))
	orElse(&c.Conntrack.TCPEstablishedTimeout, &metav1.Duration{Duration: 24 * time.Hour})
	orElse(&c.Conntrack.TCPCloseWaitTimeout, &metav1.Duration{Duration: time.Hour})
	orElse(&c.ClientConnection.ContentType, "application/vnd.kubernetes.protobuf")
	orElse(&c.ClientConnection.QPS, 5)
	orElse(&c.ClientConnection.Burst, 10)
	orElse(&c.DetectLocalMode, DetectClusterCIDR)
	if c.FeatureGates == nil {
		c.FeatureGates = map[string]bool{}
	}
	logsapi.SetRecommendedLoggingConfiguration(&c.Logging)
}

func orElse[T comparable](to *T, value T) {
	var zero T
	if *to == zero {
		*to = value
	}
}

// withPort completes an address that has no port.
func withPort(s string, port int32) string {
	if netutils.ParseIPSloppy(s) == nil {
		return s
	}
	return net.JoinHostPort(s, strconv.Itoa(int(port)))
}
