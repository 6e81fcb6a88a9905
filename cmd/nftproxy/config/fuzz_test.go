// SPDX-License-Identifier: Apache-2.0

//go:build linux

package config

import (
	"strings"
	"testing"
)

// FuzzConfig: whatever a configuration file says, it is read or refused; what is read has
// an answer to every question that run asks.
func FuzzConfig(f *testing.F) {
	const head = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n"
	for _, seed := range []string{
		"", head,
		head + "mode: ipvs\nipvs: {syncPeriod: 30s}\nclusterCIDR: 10.244.0.0/16,fd00:10:244::/56\n",
		head + "mode: nftables\nnodePortAddresses: [localhost, 10.0.0.0/8]\nfeatureGates: {NoSuchGate: true}\n",
		head + "conntrack: {maxPerCore: 32768, min: 131072, tcpEstablishedTimeout: 24h0m0s}\nmetricsBindAddress: 127.0.0.1\n",
		head + "detectLocalMode: BridgeInterface\ndetectLocal: {bridgeInterface: cni0}\nlogging: {format: json, verbosity: 9}\n",
		head + "iptables: &a {masqueradeBit: 40, syncPeriod: -1s}\nnftables: *a\n",
		`{"apiVersion":"kubeproxy.config.k8s.io/v1alpha1","kind":"KubeProxyConfiguration","bindAddress":"::","healthzBindAddress":"[::]:10256"}`,
		"apiVersion: v1\nkind: ConfigMap\ndata: {}\n",
		head + "---\napiVersion: nftproxy.io/v1alpha1\nkind: NftproxyConfiguration\nfailover: true\nmaglevTableSize: 4093\n",
		"--- # ours\napiVersion: nftproxy.io/v1alpha1\nkind: NftproxyConfiguration\ncountPeriod: 5s\n---\n" + head,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, own, _, err := Parse(data)
		if err != nil {
			if strings.TrimSpace(err.Error()) == "" {
				t.Error("a refusal without a reason")
			}
			return
		}
		if text, err := own.Marshal(); err != nil || len(text) == 0 {
			t.Errorf("what it says besides cannot be written: %v", err)
		}
		faults := Validate(c)
		for _, fault := range faults {
			if fault.Field == "" || fault.Error() == "" {
				t.Errorf("fault %+v does not say where or what", fault)
			}
		}
	})
}
