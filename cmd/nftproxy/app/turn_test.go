// SPDX-License-Identifier: Apache-2.0

package app

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nftproxy/nftproxy/e2e/proxy"
)

// lb is a Service with all for which nftproxy itself listens.
const lb = `
apiVersion: v1
kind: Service
metadata: {namespace: default, name: NAME}
spec:
  type: LoadBalancer
  clusterIPs: [10.96.0.7]
  clusterIP: 10.96.0.7
  externalTrafficPolicy: Local
  healthCheckNodePort: 32000
  ports: [{port: 80, nodePort: 30080}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {namespace: default, name: lb-4, labels: {kubernetes.io/service-name: NAME}}
addressType: IPv4
ports: [{port: 8080}]
endpoints: [{addresses: [10.244.1.2], nodeName: here}]
`

// everywhere are flags and a Service with which nftproxy listens wherever it can.
var everywhere = []string{"--nodeport-addresses", "127.0.0.0/8", "--healthz-bind-address", "127.0.0.1:10256", "--metrics-bind-address", "127.0.0.1:10249",
	"--probe-bind-address", "127.0.0.1:10246", "--bind-address-hard-fail"}

// startEverywhere starts an nftproxy that has one Service, of a name.
func (n *node) startEverywhere(service string) *proxy.Process {
	n.t.Helper()
	dir := n.t.TempDir()
	must(n.t, os.WriteFile(filepath.Join(dir, "lb.yaml"), []byte(strings.ReplaceAll(lb, "NAME", service)), 0o600))
	return n.start(append([]string{"--manifests", dir}, everywhere...)...)
}

// mustServe fails unless nftproxy answers at all addresses.
func (n *node) mustServe(when string) {
	n.t.Helper()
	for _, at := range []string{"127.0.0.1:10256 /healthz", "127.0.0.1:10246 /livez", "127.0.0.1:10246 /readyz", "127.0.0.1:10249 /metrics", "127.0.0.1:32000 /"} {
		address, path, _ := strings.Cut(at, " ")
		for {
			_, err := n.get(address, path)
			if err == nil {
				break
			}
			if n.ctx.Err() != nil {
				n.t.Fatalf("%s: %s: %v", when, at, err)
			}
		}
	}
}

// TestTurns: of several nftproxies one writes and listens. The others say which that is, are ready, and take over.
func TestTurns(t *testing.T) {
	n := newNode(t)
	first := n.startEverywhere("first")
	must(t, first.WaitSynced(n.ctx))
	n.mustServe("with one")
	before, err := proxy.Generation(n.NS)
	must(t, err)

	second := n.startEverywhere("second")
	must(t, second.WaitLog(n.ctx, fmt.Sprintf(`Another nftproxy writes the tables: waiting for its end" table="nftproxy" held by="process %d`, first.Pid())))
	must(t, second.WaitLog(n.ctx, "Ready to take over"))
	n.mustServe("with two")
	if after, err := proxy.Generation(n.NS); err != nil || after != before {
		t.Errorf("generation %d, %v, before %d: somebody has written", after, err, before)
	}
	if out, err := n.run("ready"); err != nil || strings.Count(out, "ready: process ") != 2 {
		t.Errorf("ready: %v: %s", err, out)
	}
	var out string
	for out == "" || strings.Contains(out, "not ready to take over yet") && n.ctx.Err() == nil { // it tells the first one within a second
		out, _ = n.run("check", "--manifests", t.TempDir())
	}
	for _, want := range []string{fmt.Sprintf("process %d, version v1.2.3, since ", first.Pid()), " writes table nftproxy\n",
		fmt.Sprintf("process %d, version v1.2.3, since ", second.Pid()), " waits, ready to take over\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("check does not say %q:\n%s", want, out)
		}
	}
	if out, err := n.run("cleanup"); err == nil || !strings.Contains(out, fmt.Sprintf("nftproxy is running as process %d", first.Pid())) {
		t.Errorf("cleanup: %v: %s", err, out)
	}
	if out, err := n.run("diff"); err != nil || !strings.HasPrefix(out, "equal") {
		t.Errorf("diff is not about the one that writes: %v: %s", err, out)
	}

	must(t, first.Stop())
	must(t, second.WaitLog(n.ctx, "Taking over"))
	must(t, second.WaitSynced(n.ctx))
	n.await("default/second")
	n.mustServe("after the first one's end")

	third := n.startEverywhere("second")
	must(t, third.WaitLog(n.ctx, "Ready to take over"))
	second.Kill()
	must(t, third.WaitSynced(n.ctx))
	n.mustServe("after the second one was killed")
	must(t, third.Stop())
	for _, p := range []*proxy.Process{first, second, third} {
		for line := range strings.Lines(p.Log()) {
			if strings.HasPrefix(line, "E") || strings.HasPrefix(line, "W") {
				t.Errorf("an error is logged: %s", line)
			}
		}
	}
	if out, err := n.run("cleanup"); err != nil {
		t.Errorf("cleanup: %v: %s", err, out)
	}
}

// TestTurnsOfNames: nftproxies of several names do not wait for each other.
func TestTurnsOfNames(t *testing.T) {
	n := newNode(t)
	for _, args := range [][]string{{}, {"--service-proxy-name", "other"}, {"--service-proxy-name", "lock"}} {
		p := n.start(append(args, "--healthz-bind-address", "", "--metrics-bind-address", "")...)
		must(t, p.WaitSynced(n.ctx))
	}
	for args, want := range map[string]int{"ready": 3, "ready --service-proxy-name=": 1, "ready --service-proxy-name lock": 1} {
		if out, err := n.run(strings.Fields(args)...); err != nil || strings.Count(out, "ready: process ") != want {
			t.Errorf("%s: %v: %s, want %d", args, err, out, want)
		}
	}
}

// TestReady: it is an error while nobody runs, or one that runs has not got all there is.
func TestReady(t *testing.T) {
	n := newNode(t)
	if out, err := n.run("ready"); err == nil || !strings.Contains(out, "no nftproxy") {
		t.Errorf("with nobody: %v: %s", err, out)
	}
	p, err := proxy.Start(n.command("run", "--master", "http://127.0.0.1:1", "--hostname-override", "here"))
	must(t, err)
	t.Cleanup(p.Kill)
	must(t, p.WaitLog(n.ctx, "trying again"))
	if out, err := n.run("ready"); err == nil || !strings.Contains(out, "not ready yet") {
		t.Errorf("without an API server: %v: %s", err, out)
	}
}
