// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"
)

// flagDefaults are the options as they are without any flag.
func flagDefaults() *runOptions {
	o := &runOptions{}
	o.addFlags(pflag.NewFlagSet("", pflag.ContinueOnError))
	return o
}

func parse(t *testing.T, text string) (*kubeProxyConfig, []string) {
	t.Helper()
	c, warnings, err := parseConfig([]byte("apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n" + text))
	if err != nil {
		t.Fatal(err)
	}
	return c, warnings
}

// TestKubeadmConfig: what kubeadm writes means what no flags mean, but for what it says.
func TestKubeadmConfig(t *testing.T) {
	c, warnings, err := readConfig("../../../e2e/testdata/kubeadm-kube-proxy.conf")
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{`mode "": nftproxy programs nftables whatever it is`}; !slices.Equal(warnings, want) {
		t.Errorf("warnings %q, want %q", warnings, want)
	}
	got, want := flagDefaults(), flagDefaults()
	got.use(c)
	want.source.kubeconfig, want.rules.clusterCIDR = "/var/lib/kube-proxy/kubeconfig.conf", "10.244.0.0/16"
	if diff := cmp.Diff(want.config(), got.config()); diff != "" {
		t.Errorf("options (-want +got):\n%s", diff)
	}
}

// TestConfigFields sets every field to something and looks for it in the options.
func TestConfigFields(t *testing.T) {
	c, warnings := parse(t, `
clientConnection: {kubeconfig: /k, qps: 50, burst: 100, contentType: application/json, acceptContentTypes: application/json}
hostnameOverride: Node-1
bindAddress: fd00::1
healthzBindAddress: 10.0.0.1
metricsBindAddress: "[::]:9999"
bindAddressHardFail: true
enableProfiling: true
clusterCIDR: 10.244.0.0/16,fd00:10:244::/48
detectLocalMode: BridgeInterface
detectLocal: {bridgeInterface: cni0}
nodePortAddresses: [primary, 10.0.0.0/8]
nftables: {masqueradeBit: 15, masqueradeAll: true, syncPeriod: 1m, minSyncPeriod: 2s}
conntrack: {maxPerCore: 0, min: 1, tcpEstablishedTimeout: 1h, tcpCloseWaitTimeout: 0s, tcpBeLiberal: true, udpTimeout: 10s, udpStreamTimeout: 20s}
oomScoreAdj: 5
featureGates: {AllowServiceExternalIPs: false, Other: true}
mode: ipvs
ipvs: {scheduler: rr}
winkernel: {networkName: x}
showHiddenMetricsForVersion: "1.36"
logging: {verbosity: 4}
`)
	o := flagDefaults()
	o.use(c)
	for _, row := range []struct {
		what      string
		got, want any
	}{
		{"kubeconfig", o.source.kubeconfig, "/k"},
		{"qps", o.source.qps, float32(50)},
		{"burst", o.source.burst, 100},
		{"content type", o.source.contentType + " " + o.source.acceptContentTypes, "application/json application/json"},
		{"host name", o.rules.hostnameOverride, "Node-1"},
		{"bind address", o.node.bindAddress, "fd00::1"},
		{"addresses", o.healthzAddress + " " + o.metricsAddress, "10.0.0.1:10256 [::]:9999"},
		{"hard fail, profiling", o.hardFail && o.profiling, true},
		{"cluster CIDRs", o.rules.clusterCIDR, "10.244.0.0/16,fd00:10:244::/48"},
		{"detect local", o.node.detectLocalMode + " " + o.node.bridgeInterface, "BridgeInterface cni0"},
		{"NodePorts", strings.Join(o.node.nodePortAddresses, " "), "primary 10.0.0.0/8"},
		{"masquerade", o.rules.masqueradeAll && o.rules.masqueradeBit == 15, true},
		{"sync periods", o.syncPeriod.String() + " " + o.minSyncPeriod.String(), "1m0s 2s"},
		{"conntrack", o.tracking.MaxPerCore == 0 && o.tracking.Min == 1 && o.tracking.TCPEstablished == time.Hour && o.tracking.TCPCloseWait == 0 &&
			o.tracking.TCPBeLiberal && o.tracking.UDP == 10*time.Second && o.tracking.UDPStream == 20*time.Second, true},
		{"OOM score", o.oomScoreAdj, 5},
		{"gates", o.node.featureGates["AllowServiceExternalIPs"], false},
		{"unknown gates", len(o.node.featureGates), 1},
		{"verbosity", int(c.Logging.Verbosity), 4},
	} {
		if row.got != row.want {
			t.Errorf("%s: %v, want %v", row.what, row.got, row.want)
		}
	}
	for i, want := range []string{"featureGates.Other", "ipvs:", `mode "ipvs"`, "showHiddenMetricsForVersion", "winkernel"} {
		if i >= len(warnings) || !strings.HasPrefix(warnings[i], want) {
			t.Errorf("warnings %q, want one that begins with %q at %d", warnings, want, i)
		}
	}
}

// TestIPTablesSection counts where the one for nftables is empty.
func TestIPTablesSection(t *testing.T) {
	c, _ := parse(t, "iptables: {masqueradeBit: 3, masqueradeAll: true, syncPeriod: 2m, minSyncPeriod: 3s}")
	o := flagDefaults()
	o.use(c)
	if o.rules.masqueradeBit != 3 || !o.rules.masqueradeAll || o.syncPeriod != 2*time.Minute || o.minSyncPeriod != 3*time.Second {
		t.Errorf("%+v %s %s, want what the iptables section says", o.rules, o.syncPeriod, o.minSyncPeriod)
	}
	c, _ = parse(t, "iptables: {masqueradeBit: 3}\nnftables: {masqueradeAll: true}")
	if *c.NFTables.MasqueradeBit != defaultMasqBit {
		t.Errorf("masquerade bit %d beside an nftables section, want the default", *c.NFTables.MasqueradeBit)
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

// TestConfigErrors: all faults are told of at once, by the fields' paths.
func TestConfigErrors(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.conf")
	if err := os.WriteFile(path, []byte(`
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
bindAddress: nowhere
healthzBindAddress: x:1
metricsBindAddress: 1.2.3.4:0
clusterCIDR: 10.0.0.0/8,x
mode: userspace
oomScoreAdj: 2000
clientConnection: {burst: -1}
detectLocalMode: Guess
nodePortAddresses: [primary, primary, x]
nftables: {masqueradeBit: 32, syncPeriod: 1s, minSyncPeriod: 2s}
conntrack: {maxPerCore: -1, min: -1, tcpEstablishedTimeout: -1s, tcpCloseWaitTimeout: -1s, udpTimeout: -1s, udpStreamTimeout: -1s}
logging: {format: xml}
`), 0o600); err != nil {
		t.Fatal(err)
	}
	var stderr strings.Builder
	if code := Run(context.Background(), "test", []string{"run", "--config", path}, os.Stdout, &stderr); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	for _, want := range []string{"bindAddress:", "healthzBindAddress:", "metricsBindAddress:", "clusterCIDR:", "mode:", "oomScoreAdj:", "clientConnection.burst:",
		"detectLocalMode:", "nodePortAddresses[1]: Duplicate", "nodePortAddresses[2]: Invalid", "nftables.masqueradeBit:", "nftables.syncPeriod:", "conntrack.maxPerCore:", "conntrack.min:",
		"conntrack.tcpEstablishedTimeout:", "conntrack.tcpCloseWaitTimeout:", "conntrack.udpTimeout:", "conntrack.udpStreamTimeout:", "logging.format:"} {
		if !strings.Contains(stderr.String(), "KubeProxyConfiguration."+want) {
			t.Errorf("the message does not name %s", want)
		}
	}
	if t.Failed() {
		t.Log(stderr.String())
	}
}

// TestWriteConfig writes what it reads.
func TestWriteConfig(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.conf")
	args := []string{"run", "--write-config-to", path, "--kubeconfig", "/k", "--cluster-cidr", "10.244.0.0/16", "--masquerade-all", "--iptables-masquerade-bit", "7",
		"--ipvs-sync-period", "1m", "--healthz-port", "0", "--metrics-port", "77", "--feature-gates", "AllowServiceExternalIPs=false"}
	if code := Run(context.Background(), "test", args, os.Stdout, os.Stderr); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	c, warnings, err := readConfig(path)
	if err != nil || len(warnings) > 0 {
		t.Fatal(err, warnings)
	}
	if c.ClientConnection.Kubeconfig != "/k" || c.ClusterCIDR != "10.244.0.0/16" || !c.NFTables.MasqueradeAll || *c.NFTables.MasqueradeBit != 7 ||
		c.NFTables.SyncPeriod.Duration != time.Minute || c.MetricsBindAddress != "127.0.0.1:77" || c.FeatureGates["AllowServiceExternalIPs"] {
		t.Errorf("%+v is not what the flags said", c)
	}
	again := filepath.Join(t.TempDir(), "again.conf")
	args = []string{"run", "--config", path, "--write-config-to", again, "--hostname-override", "me", "--cluster-cidr", "10.0.0.0/8"}
	if code := Run(context.Background(), "test", args, os.Stdout, os.Stderr); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	c.HostnameOverride = "me"
	if second, _, err := readConfig(again); err != nil || cmp.Diff(c, second) != "" {
		t.Errorf("%v; not what the file said: %s", err, cmp.Diff(c, second))
	}
	var message strings.Builder
	args = []string{"run", "--write-config-to", again, "--cluster-cidr", "here", "--masquerade-bit", "99"}
	if code := Run(context.Background(), "test", args, os.Stdout, &message); code != 1 || strings.Count(message.String(), "KubeProxyConfiguration.") != 2 {
		t.Errorf("exit code %d, want both errors: %s", code, message.String())
	}
}

// TestConfigChanges follows a file as a ConfigMap's volume replaces it.
func TestConfigChanges(t *testing.T) {
	dir := t.TempDir()
	put := func(version, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Join(dir, version), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, version, "config.conf"), []byte("apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n"+text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(version, filepath.Join(dir, "new")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, "new"), filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	put("v1", "mode: nftables")
	if err := os.Symlink("..data/config.conf", filepath.Join(dir, "config.conf")); err != nil {
		t.Fatal(err)
	}
	w, err := watchFile(filepath.Join(dir, "config.conf"))
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	got := make(chan *kubeProxyConfig)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	go func() { c, _ := w.next(ctx); got <- c }()
	put("v2", "mode: nftables") // the same
	put("v3", "mode: nonsense") // wrong
	put("v4", "mode: nftables\nclusterCIDR: 10.9.0.0/16")
	if c := <-got; c == nil || c.ClusterCIDR != "10.9.0.0/16" {
		t.Errorf("got %+v, want the last file", c)
	}
	cancel()
	if c, _ := w.next(ctx); c != nil {
		t.Error("a change was told of after the end")
	}
}
