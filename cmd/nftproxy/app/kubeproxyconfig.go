// SPDX-License-Identifier: Apache-2.0

package app

import (
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	logsapi "k8s.io/component-base/logs/api/v1"
	proxyconfig "k8s.io/kube-proxy/config/v1alpha1"
	netutils "k8s.io/utils/net"
	"k8s.io/utils/ptr"

	"github.com/nftproxy/nftproxy/conntrack"
	"github.com/nftproxy/nftproxy/proxier/source/manifests"
)

// kubeProxyConfig is kube-proxy's configuration file, kubeproxy.config.k8s.io/v1alpha1.
type kubeProxyConfig = proxyconfig.KubeProxyConfiguration

// The ports of /healthz and /metrics, unless an address has one.
const (
	healthzPort = 10256
	metricsPort = 10249
)

// The values of mode.
const (
	modeIPTables = "iptables"
	modeIPVS     = "ipvs"
	modeNFTables = "nftables"
)

// The values of detectLocalMode.
const (
	detectClusterCIDR     = "ClusterCIDR"
	detectNodeCIDR        = "NodeCIDR"
	detectBridgeInterface = "BridgeInterface"
	detectInterfacePrefix = "InterfaceNamePrefix"
)

// gateExternalIPs is the feature gate that lets Services have externalIPs (KEP-5707).
const gateExternalIPs = "AllowServiceExternalIPs"

// readConfig reads kube-proxy's configuration file.
func readConfig(path string) (*kubeProxyConfig, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read --config: %w", err)
	}
	c, _, err := parseConfig(data)
	if err != nil {
		return nil, fmt.Errorf("--config %s: %w", path, err)
	}
	return c, nil
}

// parseConfig decodes kube-proxy's configuration and fills in its defaults. As there,
// unknown and duplicate fields are warnings; what has no meaning here is one, too.
func parseConfig(data []byte) (c *kubeProxyConfig, warnings []string, err error) {
	if err = manifests.CheckExpansion(data); err != nil {
		return nil, nil, err
	}
	scheme := runtime.NewScheme()
	utilruntime.Must(proxyconfig.AddToScheme(scheme))
	decode := func(strictness serializer.CodecFactoryOptionsMutator) (runtime.Object, error) {
		// The data has to say what it is: an empty file is not a configuration of defaults.
		decoded, _, failed := serializer.NewCodecFactory(scheme, strictness).UniversalDeserializer().Decode(data, nil, nil)
		return decoded, failed
	}
	object, err := decode(serializer.EnableStrict)
	if runtime.IsStrictDecodingError(err) {
		warnings = append(warnings, fmt.Sprintf("fields that are left out: %v", err))
		object, err = decode(serializer.DisableStrict)
	}
	if err != nil {
		return nil, nil, err
	}
	c, ok := object.(*kubeProxyConfig)
	if !ok {
		return nil, nil, fmt.Errorf("it is a %s, not a KubeProxyConfiguration", object.GetObjectKind().GroupVersionKind().Kind)
	}
	warnings = append(warnings, meaningless(c)...)
	setDefaults(c)
	return c, warnings, nil
}

// sectionOf returns the section that counts: the mode's, as for kube-proxy, unless only
// the other one is filled in.
func sectionOf(c *kubeProxyConfig) string {
	iptables, ipvs := c.IPTables, c.IPVS.SyncPeriod.Duration != 0 || c.IPVS.MinSyncPeriod.Duration != 0
	iptables.LocalhostNodePorts = nil // it has no meaning here
	switch filled := iptables != (proxyconfig.KubeProxyIPTablesConfiguration{}); {
	case c.Mode == modeIPVS && (filled || ipvs):
		return modeIPVS
	case filled && (c.Mode != modeNFTables || c.NFTables == (proxyconfig.KubeProxyNFTablesConfiguration{})):
		return modeIPTables
	}
	return modeNFTables
}

// setDefaults fills in what is not given, as kube-proxy does, but for minSyncPeriod:
// nothing waits unless the file says so. What counts is in the section for nftables then.
func setDefaults(c *kubeProxyConfig) {
	c.APIVersion, c.Kind = proxyconfig.SchemeGroupVersion.String(), "KubeProxyConfiguration"
	if section := sectionOf(c); section != modeNFTables {
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
	orElse(&c.DetectLocalMode, detectClusterCIDR)
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

// trackingSettings is what connection tracking is to be set to.
func trackingSettings(c *proxyconfig.KubeProxyConntrackConfiguration) conntrack.Settings {
	return conntrack.Settings{
		MaxPerCore: int(*c.MaxPerCore), Min: int(*c.Min),
		TCPEstablished: c.TCPEstablishedTimeout.Duration, TCPCloseWait: c.TCPCloseWaitTimeout.Duration, TCPBeLiberal: c.TCPBeLiberal,
		UDP: c.UDPTimeout.Duration, UDPStream: c.UDPStreamTimeout.Duration,
	}
}

// meaningless names what a file says and has no meaning here.
func meaningless(c *kubeProxyConfig) []string {
	var out []string
	note := func(given bool, text string) {
		if given {
			out = append(out, text)
		}
	}
	section := sectionOf(c)
	note(c.Mode != modeNFTables, fmt.Sprintf("mode %q: nftproxy programs nftables whatever it is", c.Mode))
	note(section != modeNFTables && c.NFTables != (proxyconfig.KubeProxyNFTablesConfiguration{}), fmt.Sprintf("nftables: in mode %q the section for %s counts, as for kube-proxy", c.Mode, section))
	note(section == modeNFTables && sectionOf(&kubeProxyConfig{IPTables: c.IPTables}) == modeIPTables, "iptables: in mode nftables the section for that counts")
	ipvs := c.IPVS
	ipvs.SyncPeriod, ipvs.MinSyncPeriod = metav1.Duration{}, metav1.Duration{}
	note(!apiequality.Semantic.DeepEqual(ipvs, proxyconfig.KubeProxyIPVSConfiguration{}), "ipvs: the section has no meaning; for a scheduler use --scheduler")
	note(section != modeIPVS && c.IPVS.SyncPeriod.Duration != 0, "ipvs.syncPeriod: it counts in mode ipvs")
	note(section != modeIPVS && c.IPVS.MinSyncPeriod.Duration != 0, "ipvs.minSyncPeriod: it counts in mode ipvs")
	note(c.Winkernel != (proxyconfig.KubeProxyWinkernelConfiguration{}) || c.WindowsRunAsService, "winkernel, windowsRunAsService: no meaning on Linux")
	note(ptr.Deref(c.IPTables.LocalhostNodePorts, false), "iptables.localhostNodePorts: NodePorts on loopback addresses are served if nodePortAddresses has localhost")
	note(c.ConfigSyncPeriod.Duration != 0, "configSyncPeriod: nothing is refreshed, as nothing needs it")
	note(c.ShowHiddenMetricsForVersion != "", "showHiddenMetricsForVersion: no metric is hidden")
	note(c.PortRange != "", "portRange: kube-proxy itself has no use for it any more")
	for gate := range c.FeatureGates {
		note(gate != gateExternalIPs, "featureGates."+gate+": it is not a gate of nftproxy's")
	}
	slices.Sort(out)
	return out
}
