// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/spf13/pflag"
	cliflag "k8s.io/component-base/cli/flag"
	logsapi "k8s.io/component-base/logs/api/v1"

	"github.com/nftproxy/nftproxy/conntrack"
)

// flagOptions are the options that flags give.
func flagOptions(t *testing.T, args ...string) *runOptions {
	t.Helper()
	o, fs := &runOptions{}, pflag.NewFlagSet("", pflag.ContinueOnError)
	o.addFlags(fs)
	must(t, fs.Parse(args))
	o, err := o.resolved(fs, nil)
	must(t, err)
	return o
}

const configHead = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n"

func parse(t *testing.T, text string) (*kubeProxyConfig, []string) {
	t.Helper()
	c, warnings, err := parseConfig([]byte(configHead + text))
	must(t, err)
	return c, warnings
}

// TestKubeadmConfig: what kubeadm writes means what no flags mean, but for what it says.
func TestKubeadmConfig(t *testing.T) {
	data, err := os.ReadFile("../../../e2e/testdata/kubeadm-kube-proxy.conf")
	must(t, err)
	c, warnings, err := parseConfig(data)
	must(t, err)
	if want := []string{`mode "": nftproxy programs nftables whatever it is`}; !slices.Equal(warnings, want) {
		t.Errorf("warnings %q, want %q", warnings, want)
	}
	want := flagOptions(t, "--kubeconfig", "/var/lib/kube-proxy/kubeconfig.conf", "--cluster-cidr", "10.244.0.0/16", "--proxy-mode", "").config
	if diff := cmp.Diff(&want, c); diff != "" {
		t.Errorf("options (-flags +file):\n%s", diff)
	}
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
ipvs: {scheduler: rr, excludeCIDRs: []}
winkernel: {networkName: x}
showHiddenMetricsForVersion: "1.36"
configSyncPeriod: 1m
`)
	o := flagOptions(t, "--master", "https://[::1]:1")
	o.use(c)
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
		{"addresses", o.config.HealthzBindAddress + " " + o.config.MetricsBindAddress, "10.0.0.1:10256 [::]:9999"},
		{"cluster CIDRs", fmt.Sprint(p.Rules.PodCIDRs), "[10.244.0.0/16 fd00:10:244::/48]"},
		{"NodePorts", fmt.Sprint(p.Cluster.NodePorts), "{[10.0.0.0/8 10.1.0.0/16 127.0.0.0/8] true}"},
		{"masquerade", fmt.Sprint(p.Rules.MasqueradeAll, p.Rules.MasqueradeMark), "true 32768"},
		{"conntrack", trackingSettings(&c.Conntrack), conntrack.Settings{Min: 1, TCPEstablished: time.Hour, TCPBeLiberal: true, UDP: 10 * time.Second, UDPStream: 20 * time.Second}},
		{"gates", p.Cluster.NoExternalIPs, true},
	} {
		if row.got != row.want {
			t.Errorf("%s: %v, want %v", row.what, row.got, row.want)
		}
	}
	for i, want := range []string{"configSyncPeriod", "featureGates.Other", "ipvs:", `mode "ipvs"`, "showHiddenMetricsForVersion", "winkernel"} {
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
		o.use(c)
		p, err := o.proxierConfig()
		must(t, err)
		if got := fmt.Sprint(p.Rules.PodInterface, " ", p.Cluster.DetectNodeCIDR, " ", p.Rules.PodCIDRs); got != want {
			t.Errorf("%q is read as %s, want %s", text, got, want)
		}
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

// TestConfigKind: a file that does not say what it is is not taken for one that says
// nothing else.
func TestConfigKind(t *testing.T) {
	for _, text := range []string{"", "\n", "{}", `""`, "clusterCIDR: 10.0.0.0/8", "apiVersion: kubeproxy.config.k8s.io/v1alpha1\n", "kind: KubeProxyConfiguration\n",
		"apiVersion: v1\nkind: Service\n", configHead[:len(configHead)-5], configHead + "clusterCIDR: '10.0"} {
		path := filepath.Join(t.TempDir(), "config.conf")
		must(t, os.WriteFile(path, []byte(text), 0o600))
		code, _, stderr := run(t, "run", "--config", path, "--write-config-to", filepath.Join(t.TempDir(), "out"))
		if code != 1 || !strings.Contains(stderr, path) {
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
	if code != 1 {
		t.Errorf("exit code %d, want 1", code)
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
		for _, err := range validateConfig(c) {
			fields = append(fields, strings.TrimPrefix(err.Field, "KubeProxyConfiguration."))
		}
		if got := strings.Join(fields, " "); got != tt.want {
			t.Errorf("%s: wrong are %q, want %q", tt.text, got, tt.want)
		}
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
		if code != 1 {
			t.Errorf("%q: exit code %d, want 1", tt.args, code)
		}
		checkFaults(t, stderr, tt.want)
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
		c := flagOptions(t, strings.Fields(tt.args)...).config
		if got := c.HealthzBindAddress + " " + c.MetricsBindAddress; got != tt.want {
			t.Errorf("%q means %q, want %q", tt.args, got, tt.want)
		}
	}
}

// TestMeaninglessFlags are taken and named.
func TestMeaninglessFlags(t *testing.T) {
	o, fs := &runOptions{}, pflag.NewFlagSet("", pflag.ContinueOnError)
	fs.SetNormalizeFunc(cliflag.WordSepNormalizeFunc)
	o.addFlags(fs)
	must(t, fs.Parse([]string{"--ipvs_scheduler=rr", "--proxy-mode=iptables", "--feature-gates=Other=true,AllowServiceExternalIPs=true", "--machine-id-file=/x", "--iptables-sync-period=1m", "--v=1"}))
	if got, want := o.meaninglessFlags(fs), []string{"--feature-gates Other", "--ipvs-scheduler", "--machine-id-file", "--proxy-mode"}; !slices.Equal(got, want) {
		t.Errorf("%q are named, want %q", got, want)
	}
	must(t, fs.Set("proxy-mode", "nftables"))
	if got := o.meaninglessFlags(fs); slices.Contains(got, "--proxy-mode") {
		t.Errorf("%q are named", got)
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
	read := func(path string) *kubeProxyConfig {
		t.Helper()
		c, err := readConfig(path)
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
	if code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	checkFaults(t, stderr, []string{"clusterCIDR", "nftables.masqueradeBit"})
}

// TestConfigChanges follows a file as a ConfigMap's volume replaces it.
func TestConfigChanges(t *testing.T) {
	dir := t.TempDir()
	put := func(version, text string) {
		t.Helper()
		must(t, os.MkdirAll(filepath.Join(dir, version), 0o755))
		must(t, os.WriteFile(filepath.Join(dir, version, "config.conf"), []byte(text), 0o600))
		must(t, os.Symlink(version, filepath.Join(dir, "new")))
		must(t, os.Rename(filepath.Join(dir, "new"), filepath.Join(dir, "..data")))
	}
	path := filepath.Join(dir, "config.conf")
	put("v1", "first")
	must(t, os.Symlink("..data/config.conf", path))
	w := watchFile("configuration file", path, []byte("first"))
	defer w.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var seen []string
	refused := make(chan struct{}, 1)
	changed := func() string {
		seen = nil
		w.next(ctx, func(content []byte) error {
			seen = append(seen, string(content))
			if strings.HasPrefix(string(content), "wrong") {
				refused <- struct{}{}
				return errors.New("it is wrong")
			}
			return nil
		})
		return strings.Join(seen, " ")
	}
	put("v2", "second") // before anybody looks
	if got := changed(); got != "second" {
		t.Errorf("got %q, want the second file", got)
	}
	result := make(chan string)
	go func() { result <- changed() }()
	put("v3", "second")
	put("v4", "") // it is just being written
	put("v5", "wrong")
	<-refused
	put("v6", "third")
	if got := <-result; got != "wrong third" {
		t.Errorf("got %q, want the wrong and the third file", got)
	}
	cancel()
	if got := changed(); got != "" {
		t.Errorf("%q was told of after the end", got)
	}
}

// TestConfigEmptied: a file that somebody empties to write it again is not taken over.
func TestConfigEmptied(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.conf")
	must(t, os.WriteFile(path, nil, 0o600))
	w := watchFile("configuration file", path, []byte("first"))
	defer w.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w.next(ctx, func(content []byte) error { t.Errorf("%q was taken", content); return nil })
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
			_, _, err := parseConfig([]byte(configHead + bomb.String()))
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
