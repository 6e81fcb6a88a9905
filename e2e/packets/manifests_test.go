// SPDX-License-Identifier: Apache-2.0

//go:build linux

package packets

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/proxy"
	"github.com/nftproxy/nftproxy/e2e/traffic"
)

// A fault in one file is told of, with the file, the line and the reason; the file's
// last good state goes on, and everything else, too.
func TestBrokenManifests(t *testing.T) {
	t.Parallel()
	w := newWorld(t, config{})
	const good = `apiVersion: v1
kind: Service
metadata: {namespace: test, name: by-hand}
spec:
  clusterIP: 10.96.7.7
  ports: [{port: 80}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  namespace: test
  name: by-hand-1
  labels:
    kubernetes.io/service-name: by-hand
addressType: IPv4
ports: [{port: 8080}]
endpoints:
- addresses: [10.244.2.2]
`
	to := netip.MustParseAddrPort("10.96.7.7:80")
	w.wantFile(t, "by-hand.yaml", good)
	w.want(t, w.Client, traffic.TCP, to, spread(w.RemotePods[0]))
	other := w.service("other").to(ready(w.Local...))
	rows := []struct {
		name, old, new string
		says           []string
	}{
		{"no YAML", "spec:\n", "spec: [\n", []string{"by-hand.yaml:4: "}},
		{"an unknown field", "  clusterIP", "  clusterIPP", []string{"by-hand.yaml:5: ", "clusterIPP"}},
		{"an unknown kind", "kind: EndpointSlice", "kind: Endpoints", []string{"by-hand.yaml:9: ", "Endpoints"}},
		{"no service label", "    kubernetes.io/service-name: by-hand", "    a: b", []string{"by-hand.yaml:13: ", "kubernetes.io/service-name"}},
		{"a port out of range", "port: 80}", "port: 80808}", []string{"by-hand.yaml:6: ", "80808"}},
		{"an address that is none", "10.96.7.7", "10.96.7.777", []string{"by-hand.yaml:5: ", "10.96.7.777"}},
		{"nothing that ends", "10.244.2.2]", "10.244.2.2", []string{"by-hand.yaml:18: "}},
	}
	for i, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			broken := strings.Replace(good, r.old, r.new, 1)
			if broken == good {
				t.Fatalf("%q is not in the file", r.old)
			}
			w.put(t, other.to(ready(w.Local[i%2])).objects()...)
			before := len(w.nftproxy.Log())
			w.wantFile(t, "by-hand.yaml", broken)
			w.want(t, w.Client, traffic.TCP, to, spread(w.RemotePods[0]))
			w.wantEverywhere(t, other, spread(w.Local[i%2]))
			eventually(t, "a line about the fault", func() error { // the log may come later than what was programmed
				if log := w.nftproxy.Log()[before:]; !hasLine(log, r.says...) {
					return fmt.Errorf("no line says %q:\n%s", r.says, log)
				}
				return nil
			})
		})
	}
	t.Run("put right", func(t *testing.T) {
		w.wantFile(t, "by-hand.yaml", strings.ReplaceAll(good, "10.244.2.2", "10.244.2.3"))
		w.want(t, w.Client, traffic.TCP, to, spread(w.RemotePods[1]))
	})
	t.Run("deleted", func(t *testing.T) {
		if err := os.Remove(filepath.Join(w.manifests.Dir, "by-hand.yaml")); err != nil {
			t.Fatal(err)
		}
		w.programmed(t)
		w.want(t, w.Client, traffic.TCP, to, dropped())
	})
}

// wantFile writes a manifest in place, as an editor does, and waits until
// everything is programmed.
func (w *world) wantFile(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(w.manifests.Dir, name), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	w.programmed(t)
}

func hasLine(log string, texts ...string) bool {
	for line := range strings.Lines(log) {
		all := true
		for _, text := range texts {
			all = all && strings.Contains(line, text)
		}
		if all {
			return true
		}
	}
	return false
}

// A program that cannot read its objects must not take them for none.
func TestNothingWithoutTheFirstLists(t *testing.T) {
	t.Parallel()
	w := newWorld(t, config{})
	s := w.applied(t, w.service("web").to(ready(w.Local...)))
	w.stop(t)
	hidden := w.manifests.Dir + "-hidden"
	if err := os.Rename(w.manifests.Dir, hidden); err != nil {
		t.Fatal(err)
	}
	out, err := proxy.Run(patient(t), w.process(w.args...))
	if err == nil || !strings.Contains(out, w.manifests.Dir) {
		t.Errorf("without its directory it ended with %v:\n%s", err, out)
	}
	w.want(t, w.Client, traffic.TCP, s.at(netns.IPv4, servicePort), spread(w.Local...))
	if err := os.Rename(hidden, w.manifests.Dir); err != nil {
		t.Fatal(err)
	}
	w.start(t)
	w.want(t, w.Client, traffic.TCP, s.at(netns.IPv4, servicePort), spread(w.Local...))
}
