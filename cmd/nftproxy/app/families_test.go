// SPDX-License-Identifier: Apache-2.0

package app

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestIPv6Off: a node whose IPv6 is switched off serves IPv4, and says so in one line.
func TestIPv6Off(t *testing.T) {
	n := newNode(t)
	must(t, n.Do(func() error { return os.WriteFile("/proc/sys/net/ipv6/conf/all/disable_ipv6", []byte("1"), 0) }))
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "lb.yaml"), []byte(`
apiVersion: v1
kind: Service
metadata: {namespace: default, name: lb}
spec:
  type: LoadBalancer
  ipFamilyPolicy: PreferDualStack
  clusterIPs: [10.96.0.7, "fd00::7"]
  clusterIP: 10.96.0.7
  externalTrafficPolicy: Local
  healthCheckNodePort: 32000
  ports: [{port: 80, nodePort: 30080}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {namespace: default, name: lb-4, labels: {kubernetes.io/service-name: lb}}
addressType: IPv4
ports: [{port: 8080}]
endpoints: [{addresses: [10.244.1.2], nodeName: here}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {namespace: default, name: lb-6, labels: {kubernetes.io/service-name: lb}}
addressType: IPv6
ports: [{port: 8080}]
endpoints: [{addresses: ["fd00:244::2"], nodeName: here}]
`), 0o600))
	p := n.start("--manifests", dir, "--nodeport-addresses", "localhost", "--healthz-bind-address", "[::]:10256", "--metrics-bind-address", "[::1]:10249",
		"--probe-bind-address", "[::1]:10246")
	must(t, p.WaitSynced(n.ctx))
	for _, at := range []string{"127.0.0.1:32000 /", "127.0.0.1:10256 /healthz", "127.0.0.1:10249 /metrics", "127.0.0.1:10246 /livez"} {
		address, path, _ := strings.Cut(at, " ")
		if text, err := n.get(address, path); err != nil {
			t.Errorf("%s: %s, %v", at, text, err)
		}
	}
	must(t, p.Stop())
	told := 0
	for line := range strings.Lines(p.Log()) {
		switch {
		case strings.HasPrefix(line, "E"), strings.HasPrefix(line, "W"):
			t.Errorf("an error is logged: %s", line)
		case strings.Contains(line, `family="IPv6"`):
			told++
		}
	}
	if told != 1 {
		t.Errorf("the missing family is told of %d times:\n%s", told, p.Log())
	}
}
