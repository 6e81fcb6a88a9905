// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/netns/netnstest"
	"github.com/nftproxy/nftproxy/e2e/proxy"
)

const (
	// maxOutage is how long new connections to an address may fail.
	maxOutage = time.Second
	// stepTimeout bounds each step of a migration.
	stepTimeout = 30 * time.Second
	// migrationNodePort is that of the service's TCP port; UDP has the next one.
	migrationNodePort = 30080
)

// TestMigration goes from the real kube-proxy to nftproxy and back on a node with
// constant traffic, as deploy/README.md says it: the proxy to come runs beside the old
// one until its rules are there, then the old one stops, then what it left is removed.
// Before, between and after, pods are replaced.
func TestMigration(t *testing.T) {
	for _, mode := range []string{"iptables", "nftables"} {
		t.Run(mode, func(t *testing.T) {
			m := newMigration(t, mode)
			kubeProxy := m.startKubeProxy()
			m.waitRules()
			l := m.startLoad()
			m.replacePod(l, "kube-proxy serves")

			nftproxy := m.startNftproxy()
			m.replacePod(l, "both run, kube-proxy's rules are older")
			m.refuseCleanup()
			kubeProxy.Kill() // it ends so by SIGTERM, too
			m.cleanup("its tables stay\nremoved", "cleanup", "--kube-proxy")
			m.wantTables("nftproxy")
			m.replacePod(l, "nftproxy serves")
			m.wantServed()

			kubeProxy = m.startKubeProxy()
			m.waitRules()
			m.replacePod(l, "both run, nftproxy's rules are older")
			must(t, nftproxy.Stop())
			m.cleanup("removed 2 of the tables", "cleanup")
			m.wantTables("kube-proxy")
			m.replacePod(l, "kube-proxy serves again")
			l.end(t)

			kubeProxy.Kill()
			m.cleanup("removed 0 of the tables", "cleanup", "--kube-proxy")
			m.wantTables("")
		})
	}
}

// migration is a site whose Service has pods that are replaced.
type migration struct {
	*site
	mode     string
	programs string // a folder with this program under the names kube-proxy and nftproxy
	service  *corev1.Service
	backends []netns.Host // the service's pods, the oldest first
	spare    []netns.Host // to come
}

func newMigration(t *testing.T, mode string) *migration {
	netnstest.Tool(t, "nft")
	if mode == "iptables" {
		netnstest.Tool(t, "iptables-restore")
	}
	s := newSite(t)
	self, err := os.Executable()
	must(t, err)
	m := &migration{site: s, mode: mode, programs: t.TempDir(), backends: []netns.Host{s.Local[0], s.RemotePods[0], s.RemotePods[1]}, spare: s.RemotePods[2:]}
	for _, name := range []string{"kube-proxy", "nftproxy"} {
		must(t, os.Symlink(self, filepath.Join(m.programs, name)))
	}
	text, err := os.ReadFile("../testdata/kubeadm-kube-proxy.conf")
	must(t, err)
	must(t, os.WriteFile(m.config(), []byte(strings.NewReplacer(
		"/var/lib/kube-proxy/kubeconfig.conf", s.cp.Kubeconfig(),
		`mode: ""`, "mode: "+mode,
		"maxPerCore: null", "maxPerCore: 0", // it is the whole machine's
	).Replace(string(text))), 0o600))

	must(t, s.cp.EnsureNamespace(t.Context(), "shop"))
	m.service = s.service("web", func(svc *corev1.Service) {
		svc.Spec.Type = corev1.ServiceTypeNodePort
		svc.Spec.Ports = slices.DeleteFunc(svc.Spec.Ports, func(p corev1.ServicePort) bool { return p.Protocol == corev1.ProtocolSCTP })
		for i := range svc.Spec.Ports {
			svc.Spec.Ports[i].NodePort = migrationNodePort + int32(i)
		}
	})
	s.pods("web", m.backends...)
	return m
}

func (m *migration) config() string { return filepath.Join(m.programs, "config.conf") }

// process says how to run this program as another one on the node.
func (m *migration) process(name, env string, args ...string) proxy.Config {
	return proxy.Config{Program: filepath.Join(m.programs, name), Args: args, Env: []string{env + "=1"}, NS: m.Node.NS}
}

func (m *migration) startProxy(c proxy.Config) *proxy.Process {
	m.t.Helper()
	p, err := proxy.Start(c)
	must(m.t, err)
	m.t.Cleanup(func() {
		if m.t.Failed() {
			m.t.Logf("the log of %s:\n%s", filepath.Base(c.Program), p.Log())
		}
		p.Kill()
	})
	return p
}

func (m *migration) startKubeProxy() *proxy.Process {
	m.t.Helper()
	return m.startProxy(m.process("kube-proxy", kubeProxyEnv, "--config", m.config(), "--hostname-override", "node"))
}

// startNftproxy returns when all is programmed.
func (m *migration) startNftproxy() *proxy.Process {
	m.t.Helper()
	p := m.startProxy(m.process("nftproxy", runEnv, "run", "--config", m.config(), "--hostname-override", "node"))
	ctx, cancel := context.WithTimeout(m.t.Context(), stepTimeout)
	defer cancel()
	must(m.t, p.WaitSynced(ctx))
	return p
}

// waitRules waits until kube-proxy has programmed the service's pods in both families.
func (m *migration) waitRules() {
	m.t.Helper()
	table := map[string]string{"iptables": "nat", "nftables": "kube-proxy"}[m.mode]
	for f, family := range map[netns.Family]string{netns.IPv4: "ip", netns.IPv6: "ip6"} {
		m.wait("kube-proxy's rules", func() error {
			out, err := m.nft("list", "table", family, table)
			for _, h := range m.backends {
				if err != nil || !strings.Contains(out, h.Addr(f).String()) {
					return fmt.Errorf("table %s %s: %v, without %s:\n%s", family, table, err, h.Addr(f), out)
				}
			}
			return nil
		})
	}
}

// wait polls until there is no error.
func (m *migration) wait(what string, check func() error) {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), stepTimeout)
	defer cancel()
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			m.t.Fatalf("%s: %v", what, err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (m *migration) nft(args ...string) (string, error) {
	var out []byte
	err := m.Node.Do(func() (err error) {
		out, err = exec.Command("nft", args...).CombinedOutput()
		return err
	})
	return string(out), err
}

// cleanup runs a command of nftproxy's, which must say something.
func (m *migration) cleanup(want string, args ...string) {
	m.t.Helper()
	out, err := proxy.Run(m.t.Context(), m.process("nftproxy", runEnv, args...))
	if err != nil || !strings.Contains(out, want) {
		m.t.Fatalf("nftproxy %s: %v, and not %q:\n%s", args, err, want, out)
	}
	m.t.Logf("nftproxy %s:\n%s", strings.Join(args, " "), out)
}

// refuseCleanup: the rules of a kube-proxy that runs are not removed.
func (m *migration) refuseCleanup() {
	m.t.Helper()
	out, err := proxy.Run(m.t.Context(), m.process("nftproxy", runEnv, "cleanup", "--kube-proxy"))
	if err == nil || !strings.Contains(out, "kube-proxy is running as process") {
		m.t.Fatalf("cleanup beside kube-proxy: %v\n%s", err, out)
	}
}

// iptablesTables are those of iptables-nft that kube-proxy uses in its other mode.
var iptablesTables = []string{"nat", "filter", "mangle"}

// wantTables checks that the node has the tables of the proxy that serves ("": none) and,
// of the proxies' rules, nothing else. What kube-proxy --cleanup leaves, too, may stay:
// the base chains of iptables, which accept all, and KUBE-FIREWALL, the kubelet's.
func (m *migration) wantTables(proxy string) {
	m.t.Helper()
	var own []string
	switch {
	case proxy == "kube-proxy" && m.mode == "iptables":
		own = iptablesTables
	case proxy != "":
		own = []string{proxy}
	}
	out, err := m.nft("-j", "list", "ruleset")
	must(m.t, err)
	var list struct {
		Nftables []map[string]json.RawMessage
	}
	must(m.t, json.Unmarshal([]byte(out), &list))
	var tables []string
	for _, object := range list.Nftables {
		for kind, text := range object {
			var o struct{ Family, Table, Name, Chain, Hook, Policy string }
			must(m.t, json.Unmarshal(text, &o))
			switch {
			case kind == "table":
				tables = append(tables, o.Family+" "+o.Name)
			case kind == "metainfo", slices.Contains(own, o.Table), strings.Contains(string(text), `"KUBE-FIREWALL"`):
			case kind == "chain" && o.Hook != "" && o.Policy == "accept" && slices.Contains(iptablesTables, o.Table):
			default:
				m.t.Errorf("left is a %s: %s", kind, text)
			}
		}
	}
	for _, name := range []string{"kube-proxy", "nftproxy"} {
		for _, family := range []string{"ip", "ip6"} {
			if found, want := slices.Contains(tables, family+" "+name), slices.Contains(own, name); found != want {
				m.t.Errorf("table %s %s is there: %v, want %v", family, name, found, want)
			}
		}
	}
}

// replacePod adds a pod to the service and takes its oldest away, and waits until new
// connections go there and not here.
func (m *migration) replacePod(l *load, when string) {
	m.t.Helper()
	m.t.Log(when)
	added, removed := m.spare[0], m.backends[0]
	m.spare, m.backends = m.spare[1:], append(m.backends[1:], added)
	m.pods("web", added)
	must(m.t, m.cp.DeleteBackends(m.t.Context(), "shop", "web", podName("web", removed)))
	since := time.Now()
	m.wait(when, func() error { return l.goTo(since, added, removed) })
}

// wantServed waits until somebody serves health and metrics on the node.
func (m *migration) wantServed() {
	m.t.Helper()
	ns, err := openNamespace(m.Node.Fd())
	must(m.t, err)
	defer func() { must(m.t, ns.close()) }()
	client := http.Client{Transport: &http.Transport{DialContext: ns.dial, DisableKeepAlives: true}, Timeout: time.Second}
	for _, url := range []string{"http://127.0.0.1:10256/livez", "http://127.0.0.1:10249/metrics"} {
		m.wait("health and metrics", func() error {
			answer, err := client.Get(url)
			if err != nil {
				return err
			}
			defer answer.Body.Close()
			if answer.StatusCode != http.StatusOK {
				return fmt.Errorf("%s: %s", url, answer.Status)
			}
			return nil
		})
	}
}
