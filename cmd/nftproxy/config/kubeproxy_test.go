// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/nftproxy/nftproxy/internal/kubeproxytests"
)

// TestConfigOfKubeProxy replays which configurations kube-proxy's own tests have accepted and refused, and for which fields.
func TestConfigOfKubeProxy(t *testing.T) {
	const (
		port = "an address without a port gets the default one, as in kube-proxy; its test skips the defaults"
		ipvs = "nothing here reads ipvs.excludeCIDRs and the time-outs of IPVS: a fault in them harms nobody"
		gate = "nftproxy is no IPVS mode: whatever the mode, and whatever the gate says of it, nftables is programmed"
	)
	onPurpose := kubeproxytests.Purposes{
		"TestValidateHostPort/missing_port":                             port,
		"TestValidateKubeProxyConfiguration/invalid_HealthzBindAddress": port,
		"TestValidateKubeProxyConfiguration/invalid_MetricsBindAddress": port,

		"TestValidateKubeProxyExcludeCIDRs/address_cannot_be_0":              ipvs,
		"TestValidateKubeProxyExcludeCIDRs/address_missing_subnet_range":     ipvs,
		"TestValidateKubeProxyExcludeCIDRs/invalid_foo_address":              ipvs,
		"TestValidateKubeProxyExcludeCIDRs/invalid_ipv6_ip_format":           ipvs,
		"TestValidateKubeProxyExcludeCIDRs/invalid_octet_address":            ipvs,
		"TestValidateKubeProxyExcludeCIDRs/missing_ipv6_subnet_ranges":       ipvs,
		"TestValidateKubeProxyIPVSConfiguration/TCP,TCPFin,UDP_Timeouts_<_0": ipvs,

		"TestValidateProxyMode/ipvs_is_not_allowed_-_with_KubeProxyIPVS_feature_gate_disabled": gate,
	}
	// Some fields have other names in kube-proxy's memory than in a file.
	inFile := map[string]string{"interfacename": "bridgeinterface", "interfaceprefix": "interfacenameprefix", "clustercidrs": "clustercidr", "proxymode": "mode"}
	differences := map[string]string{}
	for _, c := range kubeproxytests.Read[struct {
		Test, YAML string
		Errors     []string
	}](t, "config") {
		var faults []string
		parsed, _, _, err := Parse([]byte(c.YAML))
		if err != nil {
			faults = append(faults, err.Error())
		} else {
			for _, err := range Validate(parsed) {
				faults = append(faults, err.Error())
			}
		}
		differences[c.Test] = ""
		if (len(faults) > 0) != (len(c.Errors) > 0) {
			differences[c.Test] = fmt.Sprintf("faults %q, kube-proxy: %q", faults, c.Errors)
			continue
		}
		for _, theirs := range c.Errors {
			field, _, _ := strings.Cut(strings.ToLower(theirs), ":")
			field = field[strings.LastIndex(field, ".")+1:]
			if name, ok := inFile[strings.SplitN(field, "[", 2)[0]]; ok {
				field = name
			}
			if !slices.ContainsFunc(faults, func(ours string) bool { return strings.Contains(strings.ToLower(ours), "."+field+":") }) {
				differences[c.Test] = fmt.Sprintf("faults %q, kube-proxy: %q", faults, c.Errors)
			}
		}
	}
	onPurpose.Compare(t, differences)
}
