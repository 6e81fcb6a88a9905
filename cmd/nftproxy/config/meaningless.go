// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"slices"

	proxyconfig "k8s.io/kube-proxy/config/v1alpha1"
	"k8s.io/utils/ptr"
)

// IPVSScheduler returns the scheduler of kube-proxy's IPVS mode; false: the configuration is for another mode.
func IPVSScheduler(c *Config) (name string, ok bool) {
	name = c.IPVS.Scheduler
	orElse(&name, "rr")
	return name, c.Mode == modeIPVS
}

// meaningless names what a file says and has no meaning here.
func meaningless(c *Config) []string {
	var out []string
	note := func(given bool, text string) {
		if given {
			out = append(out, text)
		}
	}
	section := sectionOf(c)
	note(c.Mode != ModeNFTables, fmt.Sprintf("mode %q: nftproxy programs nftables whatever it is", c.Mode))
	note(section != ModeNFTables && c.NFTables != (proxyconfig.KubeProxyNFTablesConfiguration{}), fmt.Sprintf("nftables: in mode %q the section for %s counts, as for kube-proxy", c.Mode, section))
	note(section == ModeNFTables && sectionOf(&Config{IPTables: c.IPTables}) == modeIPTables, "iptables: in mode nftables the section for that counts")
	ipvs := &c.IPVS
	note(c.Mode != modeIPVS && ipvs.Scheduler != "", "ipvs.scheduler: it counts in mode ipvs")
	note(len(ipvs.ExcludeCIDRs) > 0, "ipvs.excludeCIDRs: nothing in IPVS is touched, so there is nothing to spare")
	note(ipvs.StrictARP, "ipvs.strictARP: no address of a Service is put on an interface, so the node answers ARP for none")
	note(ipvs.TCPTimeout.Duration != 0 || ipvs.TCPFinTimeout.Duration != 0 || ipvs.UDPTimeout.Duration != 0,
		"ipvs timeouts: connections are tracked by conntrack alone, whose timeouts are in the section conntrack")
	note(section != modeIPVS && c.IPVS.SyncPeriod.Duration != 0, "ipvs.syncPeriod: it counts in mode ipvs")
	note(section != modeIPVS && c.IPVS.MinSyncPeriod.Duration != 0, "ipvs.minSyncPeriod: it counts in mode ipvs")
	note(c.Winkernel != (proxyconfig.KubeProxyWinkernelConfiguration{}) || c.WindowsRunAsService, "winkernel, windowsRunAsService: no meaning on Linux")
	note(ptr.Deref(c.IPTables.LocalhostNodePorts, false), "iptables.localhostNodePorts: NodePorts on loopback addresses are served if nodePortAddresses has localhost")
	note(c.ConfigSyncPeriod.Duration != 0, "configSyncPeriod: nothing is refreshed, as nothing needs it")
	note(c.ShowHiddenMetricsForVersion != "", "showHiddenMetricsForVersion: no metric is hidden")
	note(c.PortRange != "", "portRange: kube-proxy itself has no use for it any more")
	for gate := range c.FeatureGates {
		note(gate != GateExternalIPs, "featureGates."+gate+": it is not a gate of nftproxy's")
	}
	slices.Sort(out)
	return out
}
