// SPDX-License-Identifier: Apache-2.0

package config

import (
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"
	logsapi "k8s.io/component-base/logs/api/v1"
	proxyconfig "k8s.io/kube-proxy/config/v1alpha1"
	netutils "k8s.io/utils/net"
)

// Validate says what is wrong with a configuration whose defaults are filled in, by
// kube-proxy's rules. Left out is what has no meaning here, and feature gates that are
// not known: a file may have those of another version of kube-proxy, and they change nothing.
func Validate(c *Config) field.ErrorList {
	var errs field.ErrorList
	root := field.NewPath("KubeProxyConfiguration")
	invalid := func(bad bool, path *field.Path, value any, why string) {
		if bad {
			errs = append(errs, field.Invalid(path, value, why))
		}
	}
	const notNegative, positive = "must be greater than or equal to 0", "must be greater than 0"
	if bit := c.IPTables.MasqueradeBit; bit != nil {
		invalid(*bit < 0 || *bit > 31, root.Child("iptables", "masqueradeBit"), *bit, "must be within the range [0, 31]")
	}
	section := root.Child(sectionOf(c))
	bit, sync, minSync := *c.NFTables.MasqueradeBit, c.NFTables.SyncPeriod, c.NFTables.MinSyncPeriod
	invalid(sectionOf(c) == ModeNFTables && (bit < 0 || bit > 31), section.Child("masqueradeBit"), bit, "must be within the range [0, 31]")
	invalid(sync.Duration <= 0, section.Child("syncPeriod"), sync, positive)
	invalid(minSync.Duration < 0, section.Child("minSyncPeriod"), minSync, notNegative)
	invalid(minSync.Duration > sync.Duration, section.Child("syncPeriod"), sync, "must be greater than or equal to "+section.Child("minSyncPeriod").String())
	invalid(c.ConfigSyncPeriod.Duration <= 0, root.Child("configSyncPeriod"), c.ConfigSyncPeriod, positive)
	score := *c.OOMScoreAdj
	invalid(score < -1000 || score > 1000, root.Child("oomScoreAdj"), score, "must be within the range [-1000, 1000]")
	invalid(c.HostnameOverride != "" && strings.TrimSpace(c.HostnameOverride) == "", root.Child("hostnameOverride"), c.HostnameOverride, "must not be blank")
	invalid(netutils.ParseIPSloppy(c.BindAddress) == nil, root.Child("bindAddress"), c.BindAddress, "must be an IP address")
	invalid(!IsAddress(c.HealthzBindAddress), root.Child("healthzBindAddress"), c.HealthzBindAddress, "must be an IP address and a port, as in 0.0.0.0:10256")
	invalid(!IsAddress(c.MetricsBindAddress), root.Child("metricsBindAddress"), c.MetricsBindAddress, "must be an IP address and a port, as in 0.0.0.0:10249")
	invalid(c.ClientConnection.Burst < 0, root.Child("clientConnection", "burst"), c.ClientConnection.Burst, notNegative)
	invalid(!isVersion(c.ShowHiddenMetricsForVersion), root.Child("showHiddenMetricsForVersion"), c.ShowHiddenMetricsForVersion, "must be omitted or have the form 1.36")
	modes := []proxyconfig.ProxyMode{"", modeIPTables, modeIPVS, ModeNFTables}
	if !slices.Contains(modes, c.Mode) {
		errs = append(errs, field.NotSupported(root.Child("mode"), c.Mode, modes))
	}
	t, at := &c.Conntrack, root.Child("conntrack")
	invalid(*t.MaxPerCore < 0, at.Child("maxPerCore"), *t.MaxPerCore, notNegative)
	invalid(*t.Min < 0, at.Child("min"), *t.Min, notNegative)
	invalid(t.TCPEstablishedTimeout.Duration < 0, at.Child("tcpEstablishedTimeout"), t.TCPEstablishedTimeout, notNegative)
	invalid(t.TCPCloseWaitTimeout.Duration < 0, at.Child("tcpCloseWaitTimeout"), t.TCPCloseWaitTimeout, notNegative)
	invalid(t.UDPTimeout.Duration < 0, at.Child("udpTimeout"), t.UDPTimeout, notNegative)
	invalid(t.UDPStreamTimeout.Duration < 0, at.Child("udpStreamTimeout"), t.UDPStreamTimeout, notNegative)
	return slices.Concat(errs, validateNodePorts(c.NodePortAddresses, root.Child("nodePortAddresses")), validateDetectLocal(c, root),
		logsapi.Validate(&c.Logging, nil, root.Child("logging")))
}

// IsAddress says whether a text is an IP address and a port, or nothing: then nobody
// listens.
func IsAddress(s string) bool {
	host, port, err := net.SplitHostPort(s)
	_, portErr := netutils.ParsePort(port, false)
	return s == "" || err == nil && portErr == nil && netutils.ParseIPSloppy(host) != nil
}

// isVersion says whether a text is a version as in 1.36, or nothing. Which one makes no
// difference here, though kube-proxy takes only its own last one.
func isVersion(s string) bool {
	major, minor, _ := strings.Cut(s, ".")
	_, err := strconv.ParseUint(major, 10, 16)
	_, err2 := strconv.ParseUint(minor, 10, 16)
	return s == "" || err == nil && err2 == nil
}

func validateNodePorts(list []string, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	keywords := []string{"primary", "localhost", "all"}
	for i, s := range list {
		if slices.Contains(keywords, s) {
			if slices.Index(list, s) < i {
				errs = append(errs, field.Duplicate(at.Index(i), s))
			}
		} else if _, err := ParseCIDR(s); err != nil {
			errs = append(errs, field.Invalid(at.Index(i), s, "must be a CIDR or one of the keywords 'primary', 'localhost', 'all'"))
		}
	}
	return errs
}

// validateDetectLocal checks what tells pods from others, in the mode that counts only.
func validateDetectLocal(c *Config, root *field.Path) field.ErrorList {
	at := root.Child("detectLocal")
	switch c.DetectLocalMode {
	case DetectNodeCIDR:
	case DetectClusterCIDR, "":
		return validateClusterCIDR(c.ClusterCIDR, root.Child("clusterCIDR"))
	case DetectBridgeInterface:
		return validateInterface(c.DetectLocal.BridgeInterface, at.Child("bridgeInterface"))
	case DetectInterfacePrefix:
		return validateInterface(c.DetectLocal.InterfaceNamePrefix, at.Child("interfaceNamePrefix"))
	default:
		return field.ErrorList{field.NotSupported(root.Child("detectLocalMode"), string(c.DetectLocalMode),
			[]string{DetectClusterCIDR, DetectNodeCIDR, DetectBridgeInterface, DetectInterfacePrefix})}
	}
	return nil
}

func validateClusterCIDR(s string, at *field.Path) field.ErrorList {
	list := strings.Split(s, ",")
	var errs field.ErrorList
	for _, cidr := range list {
		if _, err := ParseCIDR(cidr); err != nil && s != "" {
			errs = append(errs, field.Invalid(at, cidr, "must be a CIDR (e.g. 10.100.0.0/16 or fde4:8dba:82e1::/48)"))
		}
	}
	dual, err := netutils.IsDualStackCIDRStrings(list)
	if len(list) > 2 || len(list) == 2 && err == nil && !dual {
		errs = append(errs, field.Invalid(at, s, "must be a CIDR, or one of each family with a comma (e.g. 10.100.0.0/16,fde4:8dba:82e1::/48)"))
	}
	return errs
}

// validateInterface is stricter than kube-proxy about names that no interface has: they
// would not fit into the rules.
func validateInterface(name string, at *field.Path) field.ErrorList {
	const longest = 15 // IFNAMSIZ with its end mark is 16
	if name == "" || len(name) > longest || strings.ContainsAny(name, "/*\" \t\n") {
		return field.ErrorList{field.Invalid(at, name, "must be the name of an interface, or its beginning, of at most 15 characters")}
	}
	return nil
}

// ParseCIDR reads a CIDR as kube-proxy does, with leading zeros, too, and IPv4 in its IPv6 form.
func ParseCIDR(s string) (netip.Prefix, error) {
	_, network, err := netutils.ParseCIDRSloppy(s)
	if err != nil {
		return netip.Prefix{}, err
	}
	ones, _ := network.Mask.Size()
	a, _ := netip.AddrFromSlice(network.IP)
	if a.Is4In6() && ones >= 96 {
		a, ones = a.Unmap(), ones-96
	}
	return netip.PrefixFrom(a, ones), nil
}
