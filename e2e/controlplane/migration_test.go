// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"context"
	"errors"
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

	"github.com/nftproxy/nftproxy/e2e/faults"
	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/netns/netnstest"
	"github.com/nftproxy/nftproxy/e2e/proxy"
)

const (
	// stepTimeout bounds each step of a migration.
	stepTimeout = 30 * time.Second
	// migrationNodePort is that of the service's TCP port; UDP has the next one.
	migrationNodePort = 30080
	// probeAddress is where the manifests let nftproxy say whether it is ready.
	probeAddress = "127.0.0.1:10246"
	// nowhere is an API server that does not answer.
	nowhere = "https://127.0.0.1:1"
)

// TestMigration goes from the real kube-proxy to nftproxy and back on a node with
// constant traffic, as deploy/README.md says it: the proxy to come runs beside the old
// one until its rules are there, then the old one stops, then what it left is removed.
// Before, between and after, pods are replaced and connections opened that stay. What is done
// too early is refused.
func TestMigration(t *testing.T) {
	for _, mode := range []string{"iptables", "nftables"} {
		t.Run(mode, func(t *testing.T) {
			m := newMigration(t, mode)
			kubeProxy := m.startKubeProxy()
			m.waitRules()
			m.compare()
			m.startLoad()
			m.phase("kube-proxy serves")

			kubeProxy = m.tooEarly(kubeProxy)
			nftproxy := m.migrate(kubeProxy)
			m.phase("nftproxy serves")
			m.wantServed()

			kubeProxy = m.startKubeProxy()
			m.waitRules()
			m.phase("both run, nftproxy's rules are older")
			m.refuse("nftproxy is running as process", "cleanup")
			kubeProxy.Kill()
			m.cleanup("its tables stay\nremoved", "cleanup", "--kube-proxy")
			m.wantTables("nftproxy")

			nftproxy = m.tooEarlyBack(nftproxy)
			m.phase("nftproxy serves after a restart")
			kubeProxy = m.goBack(nftproxy)
			m.phase("kube-proxy serves again")
			m.load.end(t)
			faults.Note(t, faults.Result{Row: "other programs' rules", Fault: "live kube-proxy, mode " + mode + ": it runs before nftproxy, beside it, and after it", Counts: m.load.counts()})

			kubeProxy.Kill()
			m.cleanup("removed 0 of the tables", "cleanup", "--kube-proxy")
			m.wantTables("")
		})
	}
}

// compare says what would change: nothing but, in mode iptables, NodePorts at other addresses than the node's primary ones.
func (m *migration) compare() {
	m.t.Helper()
	args := []string{"compare", "--config", m.config(), "--hostname-override", "node"}
	if m.mode == "nftables" {
		m.cleanup("Nothing would change: ", args...)
		return
	}
	out, err := m.nftproxy(args...)
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 || strings.Count(out, "NodePort 127.0.0.1:") != 2 || strings.Contains(out, "ClusterIP") ||
		strings.Contains(out, m.Node.V4.String()+":") || strings.Contains(out, m.Node.V6.String()+"]") {
		m.t.Errorf("nftproxy compare: %v, want exit code 1 and NodePorts at 127.0.0.1 and the pods' bridge:\n%s", err, out)
	}
}

// migrate takes a node from kube-proxy to nftproxy.
func (m *migration) migrate(kubeProxy *proxy.Process) *proxy.Process {
	m.t.Helper()
	nftproxy := m.startNftproxy()
	m.waitReady()
	m.phase("both run, kube-proxy's rules are older")
	m.cleanup("equal: ", "diff")
	m.refuse("kube-proxy is running as process", "cleanup", "--kube-proxy")
	kubeProxy.Kill() // it ends so by SIGTERM, too
	m.cleanup("its tables stay\nremoved", "cleanup", "--kube-proxy")
	m.wantTables("nftproxy")
	return nftproxy
}

// goBack takes the node back to kube-proxy, and asks for nothing but that its process is there
// before nftproxy goes: cleanup waits for its rules.
func (m *migration) goBack(nftproxy *proxy.Process) *proxy.Process {
	m.t.Helper()
	kubeProxy := m.startKubeProxy()
	must(m.t, nftproxy.Stop())
	refused := 0
	m.wait("cleanup", func() error {
		out, err := m.nftproxy("cleanup")
		if err == nil {
			return nil
		}
		if refused++; !strings.Contains(out, "has no rules for Services yet") {
			m.t.Fatalf("nftproxy cleanup: %v\n%s", err, out)
		}
		return err
	})
	m.t.Logf("nftproxy cleanup, refused %d times before", refused)
	m.wantTables("kube-proxy")
	return kubeProxy
}

// tooEarly takes kube-proxy away while nftproxy has programmed nothing: its rules must stay. It
// returns another kube-proxy.
func (m *migration) tooEarly(kubeProxy *proxy.Process) *proxy.Process {
	m.t.Helper()
	waiting := m.startNftproxy("--master", nowhere)
	m.wait("an nftproxy without an API server", func() error { return m.answers(probeAddress, "/livez", http.StatusOK) })
	must(m.t, m.answers(probeAddress, "/readyz", http.StatusServiceUnavailable))
	kubeProxy.Kill()
	m.refuse("there is no table ip nftproxy yet", "cleanup", "--kube-proxy")
	must(m.t, waiting.Stop())
	kubeProxy = m.startKubeProxy()
	m.phase("kube-proxy serves after a restart")
	return kubeProxy
}

// tooEarlyBack takes nftproxy away while kube-proxy has programmed nothing: its tables must stay. It
// returns another nftproxy.
func (m *migration) tooEarlyBack(nftproxy *proxy.Process) *proxy.Process {
	m.t.Helper()
	waiting := m.startKubeProxy("--master", nowhere)
	must(m.t, nftproxy.Stop())
	m.refuse("has no rules for Services yet", "cleanup")
	waiting.Kill()
	nftproxy = m.startNftproxy()
	m.waitReady()
	return nftproxy
}

// migration is a site whose Service has pods that are replaced.
type migration struct {
	*site
	mode     string
	programs string // a folder with this program under the names kube-proxy and nftproxy
	service  *corev1.Service
	load     *load
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

func (m *migration) startKubeProxy(more ...string) *proxy.Process {
	m.t.Helper()
	args := append([]string{"--config", m.config(), "--hostname-override", "node"}, more...)
	return m.startProxy(m.process("kube-proxy", kubeProxyEnv, args...))
}

func (m *migration) startNftproxy(more ...string) *proxy.Process {
	m.t.Helper()
	args := append([]string{"run", "--config", m.config(), "--hostname-override", "node", "--probe-bind-address", probeAddress}, more...)
	return m.startProxy(m.process("nftproxy", runEnv, args...))
}

// waitReady waits until nftproxy says that all is programmed.
func (m *migration) waitReady() {
	m.t.Helper()
	m.wait("nftproxy is ready", func() error { return m.answers(probeAddress, "/readyz", http.StatusOK) })
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

// nftproxy runs a command of nftproxy's on the node.
func (m *migration) nftproxy(args ...string) (string, error) {
	return proxy.Run(m.t.Context(), m.process("nftproxy", runEnv, args...))
}

// cleanup runs a command, which must say something.
func (m *migration) cleanup(want string, args ...string) {
	m.t.Helper()
	out, err := m.nftproxy(args...)
	if err != nil || !strings.Contains(out, want) {
		m.t.Fatalf("nftproxy %s: %v, and not %q:\n%s", args, err, want, out)
	}
	m.t.Logf("nftproxy %s:\n%s", strings.Join(args, " "), out)
}

// refuse runs a command that must remove nothing, and say why.
func (m *migration) refuse(want string, args ...string) {
	m.t.Helper()
	out, err := m.nftproxy(args...)
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 || !strings.Contains(out, want) || strings.Contains(out, "removed ") {
		m.t.Fatalf("nftproxy %s: %v, want exit code 1 and %q:\n%s", args, err, want, out)
	}
}

// phase adds a pod to the service and takes its oldest away, and waits until new
// connections go there and not here. Then it opens connections that stay.
func (m *migration) phase(name string) {
	m.t.Helper()
	m.t.Log(time.Now().Format(moment), name)
	added, removed := m.spare[0], m.backends[0]
	m.spare, m.backends = m.spare[1:], append(m.backends[1:], added)
	m.pods("web", added)
	from := time.Now()
	must(m.t, m.cp.DeleteBackends(m.t.Context(), "shop", "web", podName("web", removed)))
	since := time.Now()
	m.wait(name, func() error { return m.load.goTo(since, added, removed) })
	m.load.removals = append(m.load.removals, removal{from, time.Now()})
	m.load.open(m.t, name)
}

// wantServed waits until somebody serves health and metrics on the node.
func (m *migration) wantServed() {
	m.t.Helper()
	for address, path := range map[string]string{"127.0.0.1:10256": "/livez", "127.0.0.1:10249": "/metrics"} {
		m.wait("health and metrics", func() error { return m.answers(address, path, http.StatusOK) })
	}
}

// answers fails if a page on the node does not have a status code.
func (m *migration) answers(address, path string, code int) error {
	ns, err := openNamespace(m.Node.Fd())
	must(m.t, err)
	defer func() { must(m.t, ns.close()) }()
	client := http.Client{Transport: &http.Transport{DialContext: ns.dial, DisableKeepAlives: true}, Timeout: time.Second}
	answer, err := client.Get("http://" + address + path)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != code {
		return fmt.Errorf("%s%s: %s, want %d", address, path, answer.Status, code)
	}
	return nil
}
