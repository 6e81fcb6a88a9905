// SPDX-License-Identifier: Apache-2.0

package app

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/explain"
)

const claimed = `
apiVersion: v1
kind: Service
metadata: {namespace: default, name: web, creationTimestamp: "2026-02-01T00:00:00Z"}
spec: {type: NodePort, clusterIP: 10.96.0.1, ports: [{port: 80, nodePort: 30080}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {namespace: default, name: web, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{port: 8080}]
endpoints:
- {addresses: [10.244.1.2], nodeName: here, conditions: {ready: false, serving: true, terminating: true}, targetRef: {kind: Pod, name: old}}
- {addresses: [10.244.1.2], nodeName: here, targetRef: {kind: Pod, name: new}}
---
apiVersion: v1
kind: Service
metadata: {namespace: other, name: thief, creationTimestamp: "2026-01-01T00:00:00Z"}
spec: {clusterIP: 10.96.0.2, externalIPs: [10.96.0.1, 192.0.2.1, 127.0.0.1], ports: [{name: a, port: 80}, {name: b, port: 30080}]}
`

// TestExplainClaims: what is explained of an address that two Services want is what is programmed, and why.
func TestExplainClaims(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "services.yaml"), []byte(claimed), 0o600); err != nil {
		t.Fatal(err)
	}
	ask := func(target string) explain.Explanation {
		t.Helper()
		code, out, stderr := run(t, "explain", "-o", "json", target, "--from", "outside", "--manifests", dir, "--hostname-override", "here",
			"--node-ip", "192.0.2.1", "--cluster-cidr", "10.244.0.0/16")
		if code != 0 || stderr != "" {
			t.Fatalf("explain %s: exit code %d: %s", target, code, stderr)
		}
		var e explain.Explanation
		if err := json.Unmarshal([]byte(out), &e); err != nil {
			t.Fatal(err)
		}
		return e
	}
	for _, at := range []string{"10.96.0.1:80", "192.0.2.1:30080"} {
		e := ask(at + "/tcp")
		if p := e.Ports[0]; p.Service != "default/web" || len(p.Frontends) != 1 || p.Frontends[0].Clients[0].To[0].Address != "10.244.1.2:8080" {
			t.Errorf("%s: %+v", at, p)
		}
	}
	thief := ask("other/thief")
	var lost []string
	for _, p := range thief.Ports {
		lost = append(lost, p.Lost...)
	}
	if got, want := strings.Join(lost, "; "), "10.96.0.1:80/tcp, which is the ClusterIP of Service port default/web; "+
		"192.0.2.1:30080/tcp, which is the NodePort of Service port default/web"; got != want {
		t.Errorf("not served: %s, want %s", got, want)
	}
	if got := strings.Join(thief.Notes, "; "); got != `externalIP "127.0.0.1" is a loopback address: left out` {
		t.Errorf("notes: %s", got)
	}
	got := ""
	for _, e := range ask("default/web").Ports[0].Endpoints {
		got += e.Pod + " " + e.Why + ";"
	}
	if want := "default/new ;default/old terminating: another endpoint has its address now;"; got != want {
		t.Errorf("endpoints: %s, want %s", got, want)
	}
}
