// SPDX-License-Identifier: Apache-2.0

package app

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	logsapi "k8s.io/component-base/logs/api/v1"
	proxyconfig "k8s.io/kube-proxy/config/v1alpha1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/yaml"
)

// kubeProxyConfig is kube-proxy's configuration file, kubeproxy.config.k8s.io/v1alpha1.
type kubeProxyConfig = proxyconfig.KubeProxyConfiguration

// kube-proxy's defaults.
const (
	healthzPort        = 10256
	metricsPort        = 10249
	defaultSyncPeriod  = 30 * time.Second
	defaultOOMScoreAdj = -999
	defaultMasqBit     = 14
	defaultMaxPerCore  = 32 * 1024
	defaultMinTracked  = 128 * 1024
	defaultQPS         = 5
	defaultBurst       = 10
	defaultContentType = "application/vnd.kubernetes.protobuf"
)

// readConfig reads kube-proxy's configuration file. Unknown and duplicate fields are
// warnings, as there; what else is wrong is an error. Defaults are kube-proxy's, but
// for minSyncPeriod: nothing waits unless the file says so.
func readConfig(path string) (c *kubeProxyConfig, warnings []string, err error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, fmt.Errorf("read --config: %w", err)
	}
	c, warnings, err = parseConfig(data)
	if err != nil {
		return nil, nil, fmt.Errorf("--config %s: %w", path, err)
	}
	return c, warnings, nil
}

func parseConfig(data []byte) (c *kubeProxyConfig, warnings []string, err error) {
	scheme := runtime.NewScheme()
	utilruntime.Must(proxyconfig.AddToScheme(scheme))
	decode := func(options ...serializer.CodecFactoryOptionsMutator) (*kubeProxyConfig, error) {
		out := &kubeProxyConfig{}
		_, _, err := serializer.NewCodecFactory(scheme, options...).UniversalDeserializer().Decode(data, nil, out)
		return out, err
	}
	c, err = decode(serializer.EnableStrict)
	if runtime.IsStrictDecodingError(err) {
		warnings = append(warnings, fmt.Sprintf("fields that are left out: %v", err))
		c, err = decode()
	}
	if err != nil {
		return nil, nil, err
	}
	setDefaults(c)
	if errs := validateConfig(c); len(errs) > 0 {
		return nil, nil, errs.ToAggregate()
	}
	return c, append(warnings, meaningless(c)...), nil
}

// nftables returns the section for the nftables mode, and where that is not filled in
// but the one for iptables is, that.
func nftablesSection(c *kubeProxyConfig) proxyconfig.KubeProxyNFTablesConfiguration {
	if c.NFTables != (proxyconfig.KubeProxyNFTablesConfiguration{}) {
		return c.NFTables
	}
	return proxyconfig.KubeProxyNFTablesConfiguration{MasqueradeBit: c.IPTables.MasqueradeBit, MasqueradeAll: c.IPTables.MasqueradeAll,
		SyncPeriod: c.IPTables.SyncPeriod, MinSyncPeriod: c.IPTables.MinSyncPeriod}
}

// setDefaults fills in what is not given.
func setDefaults(c *kubeProxyConfig) {
	c.NFTables = nftablesSection(c)
	orElse(&c.BindAddress, "0.0.0.0")
	any, loopback := "0.0.0.0", "127.0.0.1"
	if strings.Contains(c.BindAddress, ":") {
		any, loopback = "::", "::1"
	}
	c.HealthzBindAddress = withPort(c.HealthzBindAddress, any, healthzPort)
	c.MetricsBindAddress = withPort(c.MetricsBindAddress, loopback, metricsPort)
	orElse(&c.OOMScoreAdj, ptr.To[int32](defaultOOMScoreAdj))
	orElse(&c.NFTables.MasqueradeBit, ptr.To[int32](defaultMasqBit))
	orElse(&c.NFTables.SyncPeriod.Duration, defaultSyncPeriod)
	orElse(&c.Conntrack.MaxPerCore, ptr.To[int32](defaultMaxPerCore))
	orElse(&c.Conntrack.Min, ptr.To[int32](defaultMinTracked))
	if c.Conntrack.TCPEstablishedTimeout == nil {
		c.Conntrack.TCPEstablishedTimeout = duration(24 * time.Hour)
	}
	if c.Conntrack.TCPCloseWaitTimeout == nil {
		c.Conntrack.TCPCloseWaitTimeout = duration(time.Hour)
	}
	orElse(&c.ClientConnection.ContentType, defaultContentType)
	orElse(&c.ClientConnection.QPS, defaultQPS)
	orElse(&c.ClientConnection.Burst, defaultBurst)
	orElse(&c.DetectLocalMode, proxyconfig.LocalMode(detectClusterCIDR))
	logsapi.SetRecommendedLoggingConfiguration(&c.Logging)
}

func duration(d time.Duration) *metav1.Duration { return &metav1.Duration{Duration: d} }

func orElse[T comparable](to *T, value T) {
	var zero T
	if *to == zero {
		*to = value
	}
}

// withPort completes an address and port.
func withPort(s, address string, port int) string {
	switch {
	case s == "":
		return net.JoinHostPort(address, strconv.Itoa(port))
	case net.ParseIP(s) != nil:
		return net.JoinHostPort(s, strconv.Itoa(port))
	}
	return s
}

// validateConfig says what is wrong, as kube-proxy does.
func validateConfig(c *kubeProxyConfig) field.ErrorList {
	var errs field.ErrorList
	root := field.NewPath("KubeProxyConfiguration")
	invalid := func(bad bool, path *field.Path, value any, why string) {
		if bad {
			errs = append(errs, field.Invalid(path, value, why))
		}
	}
	nft := root.Child("nftables")
	bit := *c.NFTables.MasqueradeBit
	invalid(bit < 0 || bit > 31, nft.Child("masqueradeBit"), bit, "must be within the range [0, 31]")
	sync, minSync := c.NFTables.SyncPeriod, c.NFTables.MinSyncPeriod
	invalid(sync.Duration <= 0, nft.Child("syncPeriod"), sync, "must be greater than 0")
	invalid(minSync.Duration < 0, nft.Child("minSyncPeriod"), minSync, "must be greater than or equal to 0")
	invalid(minSync.Duration > sync.Duration, nft.Child("syncPeriod"), sync, "must be greater than or equal to "+nft.Child("minSyncPeriod").String())
	score := *c.OOMScoreAdj
	invalid(score < -1000 || score > 1000, root.Child("oomScoreAdj"), score, "must be within the range [-1000, 1000]")
	_, err := netip.ParseAddr(c.BindAddress)
	invalid(err != nil, root.Child("bindAddress"), c.BindAddress, "not a valid textual representation of an IP address")
	for name, address := range map[string]string{"healthzBindAddress": c.HealthzBindAddress, "metricsBindAddress": c.MetricsBindAddress} {
		at, err := netip.ParseAddrPort(address)
		invalid(err != nil || at.Port() == 0, root.Child(name), address, "must be an IP address and a port, as in 0.0.0.0:10256")
	}
	invalid(c.ClientConnection.Burst < 0, root.Child("clientConnection", "burst"), c.ClientConnection.Burst, "must be greater than or equal to 0")
	modes := []proxyconfig.ProxyMode{"", "iptables", "ipvs", "nftables"}
	if !slices.Contains(modes, c.Mode) {
		errs = append(errs, field.NotSupported(root.Child("mode"), c.Mode, modes))
	}
	errs = append(errs, validateConntrack(&c.Conntrack, root.Child("conntrack"))...)
	errs = append(errs, logsapi.Validate(&c.Logging, nil, root.Child("logging"))...)
	slices.SortFunc(errs, func(a, b *field.Error) int { return strings.Compare(a.Field, b.Field) })
	return append(errs, validateLocal(c, root)...)
}

func validateConntrack(c *proxyconfig.KubeProxyConntrackConfiguration, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	for name, n := range map[string]int64{
		"maxPerCore": int64(*c.MaxPerCore), "min": int64(*c.Min),
		"tcpEstablishedTimeout": int64(c.TCPEstablishedTimeout.Duration), "tcpCloseWaitTimeout": int64(c.TCPCloseWaitTimeout.Duration),
		"udpTimeout": int64(c.UDPTimeout.Duration), "udpStreamTimeout": int64(c.UDPStreamTimeout.Duration),
	} {
		if n < 0 {
			errs = append(errs, field.Invalid(at.Child(name), n, "must be greater than or equal to 0"))
		}
	}
	return errs
}

// validateLocal checks what of the node serves Services, and for whom: the options'
// own checks, with the fields' paths.
func validateLocal(c *kubeProxyConfig, root *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, s := range c.NodePortAddresses {
		if _, err := (&nodeOptions{nodePortAddresses: []string{s}}).nodePorts(); err != nil {
			errs = append(errs, field.Invalid(root.Child("nodePortAddresses").Index(i), s, "must be a CIDR or one of the keywords 'primary', 'localhost', 'all'"))
		}
		if slices.Index(c.NodePortAddresses, s) < i {
			errs = append(errs, field.Duplicate(root.Child("nodePortAddresses").Index(i), s))
		}
	}
	for s := range strings.SplitSeq(c.ClusterCIDR, ",") {
		if _, err := netip.ParsePrefix(strings.TrimSpace(s)); err != nil && c.ClusterCIDR != "" {
			errs = append(errs, field.Invalid(root.Child("clusterCIDR"), s, "must be a CIDR, or two with a comma (e.g. 10.100.0.0/16,fde4:8dba:82e1::/48)"))
		}
	}
	var unused string
	switch c.DetectLocalMode {
	case detectClusterCIDR, detectNodeCIDR:
	case detectBridgeInterface:
		if err := podInterface(&unused, c.DetectLocal.BridgeInterface, "", ""); err != nil {
			errs = append(errs, field.Invalid(root.Child("detectLocal", "bridgeInterface"), c.DetectLocal.BridgeInterface, "must be the name of an interface"))
		}
	case detectInterfacePrefix:
		if err := podInterface(&unused, c.DetectLocal.InterfaceNamePrefix, "*", ""); err != nil {
			errs = append(errs, field.Invalid(root.Child("detectLocal", "interfaceNamePrefix"), c.DetectLocal.InterfaceNamePrefix, "must be what the names of interfaces begin with"))
		}
	default:
		errs = append(errs, field.NotSupported(root.Child("detectLocalMode"), string(c.DetectLocalMode),
			[]string{detectClusterCIDR, detectNodeCIDR, detectBridgeInterface, detectInterfacePrefix}))
	}
	return errs
}

// meaningless names what was given and has no meaning here.
func meaningless(c *kubeProxyConfig) []string {
	var out []string
	note := func(given bool, text string) {
		if given {
			out = append(out, text)
		}
	}
	note(c.Mode != "nftables", fmt.Sprintf("mode %q: nftproxy programs nftables whatever it is", c.Mode))
	ipvs := c.IPVS
	note(ipvs.Scheduler != "" || ipvs.StrictARP || len(ipvs.ExcludeCIDRs) > 0 || ipvs.TCPTimeout.Duration != 0 || ipvs.TCPFinTimeout.Duration != 0 || ipvs.UDPTimeout.Duration != 0,
		"ipvs: the section has no meaning; for a scheduler use --scheduler")
	note(c.Winkernel != (proxyconfig.KubeProxyWinkernelConfiguration{}) || c.WindowsRunAsService, "winkernel, windowsRunAsService: no meaning on Linux")
	note(ptr.Deref(c.IPTables.LocalhostNodePorts, false), "iptables.localhostNodePorts: NodePorts on loopback addresses are served if nodePortAddresses has localhost")
	note(c.ShowHiddenMetricsForVersion != "", "showHiddenMetricsForVersion: no metric is hidden")
	note(c.PortRange != "", "portRange: kube-proxy itself has no use for it any more")
	for gate := range c.FeatureGates {
		note(gate != gateExternalIPs, "featureGates."+gate+": it is not a gate of nftproxy's")
	}
	slices.Sort(out)
	return out
}

// use replaces what flags say by what a configuration file says, as kube-proxy does:
// only --hostname-override, --master and the logging flags count beside one.
func (o *wantOptions) use(c *kubeProxyConfig) {
	o.source.kubeconfig = c.ClientConnection.Kubeconfig
	o.source.contentType, o.source.acceptContentTypes = c.ClientConnection.ContentType, c.ClientConnection.AcceptContentTypes
	o.source.qps, o.source.burst = c.ClientConnection.QPS, int(c.ClientConnection.Burst)
	orElse(&o.rules.hostnameOverride, c.HostnameOverride)
	o.rules.clusterCIDR = c.ClusterCIDR
	o.rules.masqueradeAll = c.NFTables.MasqueradeAll
	o.rules.masqueradeBit = int(*c.NFTables.MasqueradeBit)
	o.node.bindAddress = c.BindAddress
	o.node.nodePortAddresses = c.NodePortAddresses
	o.node.detectLocalMode = string(c.DetectLocalMode)
	o.node.bridgeInterface, o.node.interfacePrefix = c.DetectLocal.BridgeInterface, c.DetectLocal.InterfaceNamePrefix
	o.node.featureGates = map[string]bool{}
	for gate, on := range c.FeatureGates {
		if gate == gateExternalIPs {
			o.node.featureGates[gate] = on
		}
	}
}

func (o *runOptions) use(c *kubeProxyConfig) {
	o.wantOptions.use(c)
	o.syncPeriod, o.minSyncPeriod = c.NFTables.SyncPeriod.Duration, c.NFTables.MinSyncPeriod.Duration
	o.healthzAddress, o.metricsAddress = c.HealthzBindAddress, c.MetricsBindAddress
	o.hardFail, o.profiling = c.BindAddressHardFail, c.EnableProfiling
	o.oomScoreAdj = int(*c.OOMScoreAdj)
	o.tracking.MaxPerCore, o.tracking.Min = int(*c.Conntrack.MaxPerCore), int(*c.Conntrack.Min)
	o.tracking.TCPEstablished, o.tracking.TCPCloseWait = c.Conntrack.TCPEstablishedTimeout.Duration, c.Conntrack.TCPCloseWaitTimeout.Duration
	o.tracking.TCPBeLiberal = c.Conntrack.TCPBeLiberal
	o.tracking.UDP, o.tracking.UDPStream = c.Conntrack.UDPTimeout.Duration, c.Conntrack.UDPStreamTimeout.Duration
}

// config returns the options as kube-proxy's configuration.
func (o *runOptions) config() *kubeProxyConfig {
	c := &kubeProxyConfig{Mode: "nftables", HostnameOverride: o.rules.hostnameOverride, ClusterCIDR: o.rules.clusterCIDR,
		BindAddress: o.node.bindAddress, HealthzBindAddress: o.healthzAddress, MetricsBindAddress: o.metricsAddress,
		BindAddressHardFail: o.hardFail, EnableProfiling: o.profiling, NodePortAddresses: o.node.nodePortAddresses,
		DetectLocalMode: proxyconfig.LocalMode(o.node.detectLocalMode), OOMScoreAdj: ptr.To(int32(o.oomScoreAdj)), FeatureGates: map[string]bool{}}
	c.APIVersion, c.Kind = proxyconfig.SchemeGroupVersion.String(), "KubeProxyConfiguration"
	c.DetectLocal.BridgeInterface, c.DetectLocal.InterfaceNamePrefix = o.node.bridgeInterface, o.node.interfacePrefix
	for gate, on := range o.node.featureGates {
		c.FeatureGates[gate] = on
	}
	c.ClientConnection.Kubeconfig, c.ClientConnection.ContentType = o.source.kubeconfig, o.source.contentType
	c.ClientConnection.AcceptContentTypes = o.source.acceptContentTypes
	c.ClientConnection.QPS, c.ClientConnection.Burst = o.source.qps, int32(o.source.burst)
	c.NFTables.MasqueradeAll, c.NFTables.MasqueradeBit = o.rules.masqueradeAll, ptr.To(int32(o.rules.masqueradeBit))
	c.NFTables.SyncPeriod.Duration, c.NFTables.MinSyncPeriod.Duration = o.syncPeriod, o.minSyncPeriod
	c.Conntrack.MaxPerCore, c.Conntrack.Min = ptr.To(int32(o.tracking.MaxPerCore)), ptr.To(int32(o.tracking.Min))
	c.Conntrack.TCPEstablishedTimeout, c.Conntrack.TCPCloseWaitTimeout = duration(o.tracking.TCPEstablished), duration(o.tracking.TCPCloseWait)
	c.Conntrack.TCPBeLiberal = o.tracking.TCPBeLiberal
	c.Conntrack.UDPTimeout.Duration, c.Conntrack.UDPStreamTimeout.Duration = o.tracking.UDP, o.tracking.UDPStream
	c.Logging = o.logging
	return c
}

// writeConfig writes what a configuration file says, with defaults, or else what flags
// say.
func (o *runOptions) writeConfig(path string) error {
	c := o.config()
	if o.configFile == "" {
		checked := c.DeepCopy()
		setDefaults(checked)
		if errs := validateConfig(checked); len(errs) > 0 {
			return errs.ToAggregate()
		}
	} else {
		file, _, err := readConfig(o.configFile)
		if err != nil {
			return err
		}
		c = file
		if o.rules.hostnameOverride != "" {
			c.HostnameOverride = o.rules.hostnameOverride
		}
	}
	data, err := yaml.Marshal(c)
	if err != nil {
		return fmt.Errorf("write --write-config-to: %w", err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil { //nolint:gosec // it holds no secrets and is for everybody to read
		return fmt.Errorf("write --write-config-to: %w", err)
	}
	return nil
}
