// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"
	cliflag "k8s.io/component-base/cli/flag"
)

// flagOptions are the options that flags give.
func flagOptions(t *testing.T, args ...string) Options {
	t.Helper()
	var o Options
	fs := pflag.NewFlagSet("", pflag.ContinueOnError)
	o.AddFlags(fs)
	o.AddRunFlags(fs)
	must(t, fs.Parse(args))
	o, _, err := o.Resolved(fs, nil)
	must(t, err)
	return o
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

const configHead = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n"

func parse(t *testing.T, text string) (*Config, []string) {
	t.Helper()
	c, _, warnings, err := Parse([]byte(configHead + text))
	must(t, err)
	return c, warnings
}

// TestKubeadmConfig: what kubeadm writes means what no flags mean, but for what it says.
func TestKubeadmConfig(t *testing.T) {
	data, err := os.ReadFile("../../../e2e/testdata/kubeadm-kube-proxy.conf")
	must(t, err)
	c, _, warnings, err := Parse(data)
	must(t, err)
	if want := []string{`mode "": nftproxy programs nftables whatever it is`}; !slices.Equal(warnings, want) {
		t.Errorf("warnings %q, want %q", warnings, want)
	}
	want := flagOptions(t, "--kubeconfig", "/var/lib/kube-proxy/kubeconfig.conf", "--cluster-cidr", "10.244.0.0/16", "--proxy-mode", "")
	if diff := cmp.Diff(&want.Config, c); diff != "" {
		t.Errorf("options (-flags +file):\n%s", diff)
	}
}

// TestSections: the mode's section counts, unless only the other is filled in.
func TestSections(t *testing.T) {
	const iptables = "iptables: {masqueradeBit: 3, masqueradeAll: true, syncPeriod: 2m, minSyncPeriod: 3s}\n"
	const nftables = "nftables: {masqueradeBit: 4, syncPeriod: 3m, minSyncPeriod: 4s}\n"
	const ipvs = "ipvs: {syncPeriod: 4m, minSyncPeriod: 5s}\n"
	for _, tt := range []struct{ mode, text, want, unused string }{
		{"", iptables + nftables + ipvs, "3 true 2m0s 3s", "ipvs.minSyncPeriod ipvs.syncPeriod mode nftables"},
		{"iptables", iptables + nftables, "3 true 2m0s 3s", "mode nftables"},
		{"iptables", nftables, "4 false 3m0s 4s", "mode"},
		{"iptables", "iptables: {localhostNodePorts: false}\n" + nftables, "4 false 3m0s 4s", "mode"},
		{"ipvs", iptables + nftables + ipvs, "3 true 4m0s 5s", "mode nftables"},
		{"ipvs", ipvs, "14 false 4m0s 5s", "mode"},
		{"ipvs", iptables, "3 true 30s 0s", "mode"},
		{"ipvs", nftables, "4 false 3m0s 4s", "mode"},
		{"nftables", iptables + nftables, "4 false 3m0s 4s", "iptables"},
		{"nftables", iptables, "3 true 2m0s 3s", ""},
		{"nftables", "nftables: {masqueradeAll: true}\n" + iptables, "14 true 30s 0s", "iptables"},
	} {
		c, warnings := parse(t, tt.text+"mode: '"+tt.mode+"'")
		n := c.NFTables
		if got := fmt.Sprint(*n.MasqueradeBit, n.MasqueradeAll, n.SyncPeriod.Duration, n.MinSyncPeriod.Duration); got != tt.want {
			t.Errorf("mode %q of\n%sis %s, want %s", tt.mode, tt.text, got, tt.want)
		}
		var unused []string
		for _, w := range warnings {
			field, _, _ := strings.Cut(w, ":")
			field, _, _ = strings.Cut(field, " ")
			unused = append(unused, field)
		}
		if got := strings.Join(unused, " "); got != tt.unused {
			t.Errorf("mode %q of\n%snames as unused %q, want %q", tt.mode, tt.text, got, tt.unused)
		}
	}
}

func TestConfigLenient(t *testing.T) {
	c, warnings := parse(t, "mode: nftables\nclusterCIDR: 10.0.0.0/8\nclusterCIDR: 10.1.0.0/16\nbogus: 1\n")
	if len(warnings) != 1 || !strings.Contains(warnings[0], `unknown field "bogus"`) || !strings.Contains(warnings[0], `"clusterCIDR" already set`) {
		t.Errorf("warnings %q, want one that names the unknown and the double field", warnings)
	}
	if c.ClusterCIDR != "10.1.0.0/16" {
		t.Errorf("clusterCIDR %s, want the last", c.ClusterCIDR)
	}
}

// TestConfigFaults: single fields are fine or wrong as for kube-proxy.
func TestConfigFaults(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"clusterCIDR: 10.0.0.0/8,fd00::/48", ""},
		{"clusterCIDR: 10.0.0.0/8,10.1.0.0/16", "clusterCIDR"},
		{"clusterCIDR: 10.0.0.0/8,fd00::/48,10.1.0.0/16", "clusterCIDR"},
		{"clusterCIDR: 010.0.0.0/8", ""},
		{"detectLocalMode: NodeCIDR\nclusterCIDR: nonsense", ""},
		{"detectLocalMode: Guess", "detectLocalMode"},
		{"detectLocalMode: BridgeInterface", "detectLocal.bridgeInterface"},
		{"detectLocalMode: InterfaceNamePrefix\ndetectLocal: {interfaceNamePrefix: 'a b'}", "detectLocal.interfaceNamePrefix"},
		{"nodePortAddresses: [10.0.0.0/8, 10.0.0.0/8, 010.1.0.0/16]", ""},
		{"nodePortAddresses: [all, localhost, all]", "nodePortAddresses[2]"},
		{"bindAddress: 010.0.0.1", ""},
		{"healthzBindAddress: 10.0.0.1:70000", "healthzBindAddress"},
		{"metricsBindAddress: 10.0.0.1", ""},
		{"showHiddenMetricsForVersion: '1.35'", ""},
		{"showHiddenMetricsForVersion: '1'", "showHiddenMetricsForVersion"},
		{"featureGates: {OfAnotherVersion: true}", ""},
		{"mode: ipvs\nipvs: {syncPeriod: -1s}", "ipvs.syncPeriod ipvs.syncPeriod"},
		{"nftables: {minSyncPeriod: -1s}\nmode: nftables", "nftables.minSyncPeriod"},
		{"nftables: {masqueradeBit: -1}\nmode: nftables", "nftables.masqueradeBit"},
		{"oomScoreAdj: -1001", "oomScoreAdj"},
	} {
		c, _ := parse(t, tt.text)
		var fields []string
		for _, err := range Validate(c) {
			fields = append(fields, strings.TrimPrefix(err.Field, "KubeProxyConfiguration."))
		}
		if got := strings.Join(fields, " "); got != tt.want {
			t.Errorf("%s: wrong are %q, want %q", tt.text, got, tt.want)
		}
	}
}

// TestAddresses: an address may come without a port, and the deprecated flags give it one.
func TestAddresses(t *testing.T) {
	for _, tt := range []struct{ args, want string }{
		{"", "0.0.0.0:10256 127.0.0.1:10249"},
		{"--metrics-bind-address=0.0.0.0 --healthz-bind-address=::", "[::]:10256 0.0.0.0:10249"},
		{"--metrics-bind-address=1.2.3.4 --metrics-port=77 --healthz-bind-address=fd00::1 --healthz-port=78", "[fd00::1]:78 1.2.3.4:77"},
		{"--metrics-port=77 --healthz-port=78", "0.0.0.0:10256 127.0.0.1:10249"},
		{"--metrics-port=77 --metrics-bind-address=1.2.3.4:5", "0.0.0.0:10256 1.2.3.4:5"},
		{"--metrics-port=0 --metrics-bind-address=1.2.3.4:5 --healthz-port=0", " "},
		{"--metrics-bind-address= --healthz-bind-address= --bind-address=", " "},
	} {
		c := flagOptions(t, strings.Fields(tt.args)...)
		if got := c.HealthzBindAddress + " " + c.MetricsBindAddress; got != tt.want {
			t.Errorf("%q means %q, want %q", tt.args, got, tt.want)
		}
	}
}

// TestMeaninglessFlags are taken and named.
func TestMeaninglessFlags(t *testing.T) {
	o, fs := &Options{}, pflag.NewFlagSet("", pflag.ContinueOnError)
	fs.SetNormalizeFunc(cliflag.WordSepNormalizeFunc)
	o.AddFlags(fs)
	o.AddRunFlags(fs)
	must(t, fs.Parse([]string{"--ipvs_scheduler=rr", "--proxy-mode=iptables", "--feature-gates=Other=true,AllowServiceExternalIPs=true", "--machine-id-file=/x", "--iptables-sync-period=1m", "--v=1"}))
	if got, want := o.Meaningless(fs), []string{"--feature-gates Other", "--ipvs-scheduler", "--machine-id-file", "--proxy-mode"}; !slices.Equal(got, want) {
		t.Errorf("%q are named, want %q", got, want)
	}
	must(t, fs.Set("proxy-mode", "nftables"))
	if got := o.Meaningless(fs); slices.Contains(got, "--proxy-mode") {
		t.Errorf("%q are named", got)
	}
}
