// SPDX-License-Identifier: Apache-2.0

package app

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/spf13/pflag"
	logsapi "k8s.io/component-base/logs/api/v1"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/config"
	"github.com/nftproxy/nftproxy/cmd/nftproxy/host"
	"github.com/nftproxy/nftproxy/conntrack"
)

// flagOptions are the options that flags give.
func flagOptions(t *testing.T, args ...string) *runOptions {
	t.Helper()
	o, err := tryFlags(t, args...)
	must(t, err)
	return o
}

// tryFlags returns the options of flags, and what is wrong with their values.
func tryFlags(t *testing.T, args ...string) (*runOptions, error) {
	t.Helper()
	o, fs := &runOptions{}, pflag.NewFlagSet("", pflag.ContinueOnError)
	o.addFlags(fs)
	must(t, fs.Parse(args))
	return o.resolved(fs, nil)
}

const configHead = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n"

func parse(t *testing.T, text string) (*config.Config, []string) {
	t.Helper()
	c, _, warnings, err := config.Parse([]byte(configHead + text))
	must(t, err)
	return c, warnings
}

// TestConfigFields sets fields to something and looks for it in what is done.
func TestConfigFields(t *testing.T) {
	c, warnings := parse(t, `
clientConnection: {qps: 50, burst: 100, contentType: application/json, acceptContentTypes: application/yaml}
hostnameOverride: " Node-1 "
bindAddress: fd00::1
healthzBindAddress: 10.0.0.1
metricsBindAddress: "[::]:9999"
clusterCIDR: 10.244.0.0/16,fd00:10:244::/48
nodePortAddresses: [primary, 10.0.0.1/8, 010.1.0.0/16, 127.0.0.0/8]
nftables: {masqueradeBit: 15, masqueradeAll: true, syncPeriod: 1m, minSyncPeriod: 2s}
conntrack: {maxPerCore: 0, min: 1, tcpEstablishedTimeout: 1h, tcpCloseWaitTimeout: 0s, tcpBeLiberal: true, udpTimeout: 10s, udpStreamTimeout: 20s}
featureGates: {AllowServiceExternalIPs: false, Other: true}
mode: ipvs
ipvs: {scheduler: wlc, strictARP: true, excludeCIDRs: []}
winkernel: {networkName: x}
showHiddenMetricsForVersion: "1.36"
configSyncPeriod: 1m
`)
	o := flagOptions(t, "--master", "https://[::1]:1")
	o.kubeProxy.Config = *c
	p, err := o.proxierConfig()
	must(t, err)
	rest, err := o.restConfig()
	must(t, err)
	for _, row := range []struct {
		what      string
		got, want any
	}{
		{"API server", rest.Host, "https://[::1]:1"},
		{"host name", p.Cluster.NodeName, "node-1"},
		{"bind address", fmt.Sprint(p.Cluster.NodeIPs), "[fd00::1]"},
		{"addresses", o.kubeProxy.HealthzBindAddress + " " + o.kubeProxy.MetricsBindAddress, "10.0.0.1:10256 [::]:9999"},
		{"cluster CIDRs", fmt.Sprint(p.Rules.PodCIDRs), "[10.244.0.0/16 fd00:10:244::/48]"},
		{"NodePorts", fmt.Sprint(p.Cluster.NodePorts), "{[10.0.0.0/8 10.1.0.0/16 127.0.0.0/8] true}"},
		{"masquerade", fmt.Sprint(p.Rules.MasqueradeAll, p.Rules.MasqueradeMark), "true 32768"},
		{"conntrack", host.Tracking(&c.Conntrack), conntrack.Settings{Min: 1, TCPEstablished: time.Hour, TCPBeLiberal: true, UDP: 10 * time.Second, UDPStream: 20 * time.Second}},
		{"gates", p.Cluster.NoExternalIPs, true},
	} {
		if row.got != row.want {
			t.Errorf("%s: %v, want %v", row.what, row.got, row.want)
		}
	}
	for i, want := range []string{"configSyncPeriod", "featureGates.Other", "ipvs.strictARP:", `mode "ipvs"`, "showHiddenMetricsForVersion", "winkernel"} {
		if i >= len(warnings) || !strings.HasPrefix(warnings[i], want) {
			t.Errorf("warnings %q, want one that begins with %q at %d", warnings, want, i)
		}
	}
	for text, want := range map[string]string{
		"detectLocalMode: BridgeInterface\ndetectLocal: {bridgeInterface: cni0}":         "cni0 false []",
		"detectLocalMode: InterfaceNamePrefix\ndetectLocal: {interfaceNamePrefix: veth}": "veth* false []",
		"detectLocalMode: NodeCIDR\nclusterCIDR: nonsense":                               " true []",
		"clusterCIDR: 010.244.0.0/16":                                                    " false [10.244.0.0/16]",
	} {
		c, _ := parse(t, text)
		o.kubeProxy.Config = *c
		p, err := o.proxierConfig()
		must(t, err)
		if got := fmt.Sprint(p.Rules.PodInterface, " ", p.Cluster.DetectNodeCIDR, " ", p.Rules.PodCIDRs); got != want {
			t.Errorf("%q is read as %s, want %s", text, got, want)
		}
	}
}

// TestConfigKind: a file that does not say what it is is not taken for one that says
// nothing else.
func TestConfigKind(t *testing.T) {
	for _, text := range []string{"", "\n", "{}", `""`, "clusterCIDR: 10.0.0.0/8", "apiVersion: kubeproxy.config.k8s.io/v1alpha1\n", "kind: KubeProxyConfiguration\n",
		"apiVersion: v1\nkind: Service\n", configHead[:len(configHead)-5], configHead + "clusterCIDR: '10.0"} {
		path := filepath.Join(t.TempDir(), "config.conf")
		must(t, os.WriteFile(path, []byte(text), 0o600))
		code, _, stderr := run(t, "run", "--config", path, "--write-config-to", filepath.Join(t.TempDir(), "out"))
		if code != 2 || !strings.Contains(stderr, path) {
			t.Errorf("%q: exit code %d, %s", text, code, stderr)
		}
	}
}

// TestConfigErrors: all faults are told of at once, by the fields' paths.
func TestConfigErrors(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.conf")
	must(t, os.WriteFile(path, []byte(configHead+`
bindAddress: nowhere
healthzBindAddress: x:1
metricsBindAddress: 1.2.3.4:0
clusterCIDR: 10.0.0.0/8,x
mode: userspace
oomScoreAdj: 2000
hostnameOverride: "  "
clientConnection: {burst: -1}
nodePortAddresses: [primary, primary, x, 10.0.0.0/8, 10.0.0.0/8]
iptables: {masqueradeBit: 33, syncPeriod: 1s, minSyncPeriod: 2s}
conntrack: {maxPerCore: -1, min: -1, tcpEstablishedTimeout: -1s, tcpCloseWaitTimeout: -1s, udpTimeout: -1s, udpStreamTimeout: -1s}
configSyncPeriod: -5s
showHiddenMetricsForVersion: new
featureGates: {OfAnotherVersion: true}
logging: {format: xml}
`), 0o600))
	code, _, stderr := run(t, "run", "--config", path, "--scheduler", "fast")
	if code != 2 {
		t.Errorf("exit code %d, want 2", code)
	}
	want := []string{"iptables.masqueradeBit", "iptables.syncPeriod", "bindAddress", "healthzBindAddress", "metricsBindAddress", "clusterCIDR", "mode", "oomScoreAdj", "hostnameOverride", "clientConnection.burst",
		"nodePortAddresses[1]", "nodePortAddresses[2]", "conntrack.maxPerCore", "conntrack.min", "conntrack.tcpEstablishedTimeout", "conntrack.tcpCloseWaitTimeout",
		"conntrack.udpTimeout", "conntrack.udpStreamTimeout", "configSyncPeriod", "showHiddenMetricsForVersion", "logging.format"}
	checkFaults(t, stderr, append(want, "--scheduler"))
}

// checkFaults compares the fields and flags that a message names with those that it should.
func checkFaults(t *testing.T, message string, want []string) {
	t.Helper()
	var got []string
	for line := range strings.Lines(strings.TrimPrefix(message, "nftproxy: ")) {
		field, _, _ := strings.Cut(line, ": ")
		got = append(got, strings.TrimPrefix(field, "KubeProxyConfiguration."))
	}
	less := func(a, b string) bool { return a < b }
	if diff := cmp.Diff(want, got, cmpopts.SortSlices(less)); diff != "" {
		t.Errorf("faults (-want +got):\n%s\nof\n%s", diff, message)
	}
}

// TestFlagFaults: flags are checked before anything is done, all at once.
func TestFlagFaults(t *testing.T) {
	for _, tt := range []struct {
		args []string
		want []string
	}{
		{[]string{"--sync-period=0", "--min-sync-period=5m", "--oom-score-adj=5000", "--conntrack-max-per-core=-1", "--scheduler=fast", "--node-ip=x"},
			[]string{"nftables.syncPeriod", "nftables.syncPeriod", "oomScoreAdj", "conntrack.maxPerCore", "--scheduler", "--node-ip"}},
		{[]string{"--cluster-cidr=10.0.0.0/8,10.1.0.0/16,10.2.0.0/16"}, []string{"clusterCIDR"}},
		{[]string{"--nodeport-addresses=primary,primary"}, []string{"nodePortAddresses[1]"}},
		{[]string{"--proxy-mode=nonsense"}, []string{"mode"}},
		{[]string{"--hostname-override= "}, []string{"hostnameOverride"}},
		{[]string{"--metrics-bind-address=nonsense"}, []string{"metricsBindAddress"}},
		{[]string{"--metrics-port=abc"}, []string{`invalid argument "abc" for "--metrics-port" flag`}},
		{[]string{"--config-sync-period=-5s"}, []string{"configSyncPeriod"}},
		{[]string{"--show-hidden-metrics-for-version=1"}, []string{"showHiddenMetricsForVersion"}},
	} {
		code, _, stderr := run(t, append([]string{"run", "--manifests", "testdata/services"}, tt.args...)...)
		if code != 2 {
			t.Errorf("%q: exit code %d, want 2", tt.args, code)
		}
		checkFaults(t, stderr, tt.want)
	}
}

// TestWriteConfig writes what it reads.
func TestWriteConfig(t *testing.T) {
	path, again := filepath.Join(t.TempDir(), "config.conf"), filepath.Join(t.TempDir(), "again.conf")
	write := func(args ...string) {
		t.Helper()
		if code, _, stderr := run(t, append([]string{"run"}, args...)...); code != 0 {
			t.Fatalf("exit code %d: %s", code, stderr)
		}
	}
	read := func(path string) *config.Config {
		t.Helper()
		c, _, err := config.Read(path)
		must(t, err)
		return c
	}
	write("--write-config-to", path, "--kubeconfig", "/k", "--cluster-cidr", "10.244.0.0/16", "--masquerade-all", "--iptables-masquerade-bit", "7",
		"--ipvs-sync-period", "1m", "--metrics-bind-address", "1.2.3.4", "--metrics-port", "77", "--feature-gates", "AllowServiceExternalIPs=false", "--ipvs-scheduler", "rr", "--vmodule", "c=3")
	c := read(path)
	if c.ClientConnection.Kubeconfig != "/k" || c.ClusterCIDR != "10.244.0.0/16" || !c.NFTables.MasqueradeAll || *c.NFTables.MasqueradeBit != 7 || c.IPVS.Scheduler != "rr" ||
		c.NFTables.SyncPeriod.Duration != time.Minute || c.MetricsBindAddress != "1.2.3.4:77" || c.FeatureGates["AllowServiceExternalIPs"] {
		t.Errorf("%+v is not what the flags said", c)
	}
	write("--config", path, "--write-config-to", again, "--hostname-override", "me", "--cluster-cidr", "10.0.0.0/8", "--v", "5", "--vmodule", "a=1,b=2")
	c.HostnameOverride, c.Logging.Verbosity = "me", 5
	c.Logging.VModule = append(logsapi.VModuleConfiguration{{FilePattern: "a", Verbosity: 1}, {FilePattern: "b", Verbosity: 2}}, c.Logging.VModule...)
	if diff := cmp.Diff(c, read(again)); diff != "" {
		t.Errorf("not what the file and the flags said: %s", diff)
	}
	code, _, stderr := run(t, "run", "--write-config-to", again, "--cluster-cidr", "here", "--masquerade-bit", "99")
	if code != 2 {
		t.Errorf("exit code %d, want 2", code)
	}
	checkFaults(t, stderr, []string{"clusterCIDR", "nftables.masqueradeBit"})
}

// TestExpandingFiles: a configuration or a kubeconfig of few bytes that stand for gigabytes is refused, at little cost.
func TestExpandingFiles(t *testing.T) {
	var bomb strings.Builder
	bomb.WriteString("x0: &a0 [x, x, x, x, x, x, x, x, x]\n")
	for i := 1; i < 9; i++ {
		fmt.Fprintf(&bomb, "x%d: &a%d [%s]\n", i, i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d, ", i-1), 9), ", "))
	}
	const head = "apiVersion: v1\nkind: Config\nclusters: [{name: c, cluster: {server: 'https://localhost'}}]\n"
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	must(t, os.WriteFile(kubeconfig, []byte(head+bomb.String()), 0o600))
	for what, read := range map[string]func() error{
		"configuration": func() error {
			_, _, _, err := config.Parse([]byte(configHead + bomb.String()))
			return err
		},
		"kubeconfig": func() error {
			_, err := flagOptions(t, "--kubeconfig="+kubeconfig).restConfig()
			return err
		},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		err := read()
		runtime.ReadMemStats(&after)
		if err == nil || !strings.Contains(err.Error(), "its aliases expand to too much") {
			t.Errorf("%s: %v", what, err)
		}
		if n := after.TotalAlloc - before.TotalAlloc; n > 64<<20 {
			t.Errorf("%s: %d MB were allocated", what, n>>20)
		}
	}
}
