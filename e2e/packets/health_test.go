// SPDX-License-Identifier: Apache-2.0

//go:build linux

package packets

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/proxy"
	"github.com/nftproxy/nftproxy/rules"
)

// A load balancer asks the node, at its own address, for endpoints of a service.
func TestHealthCheckNodePort(t *testing.T) {
	t.Parallel()
	w := newWorld(t, config{})
	w.put(t, nodeObject(nil))
	here, here2, there := w.Local[0], w.Local[1], w.RemotePods[0]
	s := w.full("web", externalLocal)
	cluster := w.full("cluster").to(ready(here))
	other := w.full("other", externalLocal, func(o *corev1.Service) { o.Spec.HealthCheckNodePort = s.Spec.HealthCheckNodePort }).to(ready(here))
	w.apply(t, cluster)
	want := func(t *testing.T, s *svc, what string) {
		t.Helper()
		for _, f := range netns.Families() {
			at := netip.AddrPortFrom(w.Node.Addr(f), uint16(s.Spec.HealthCheckNodePort)).String()
			eventually(t, "the answer at "+at, func() error {
				if got := get(t, w.Outside, at, "/"); !strings.Contains(got, what) {
					return fmt.Errorf("%s, want %q", got, what)
				}
				return nil
			})
		}
	}
	weight := func(n int) string { return fmt.Sprintf("X-Load-Balancing-Endpoint-Weight: %d\r\n", n) }
	for _, step := range []struct {
		name      string
		endpoints [][]endpoint
		code      string
		weight    int
	}{
		{"two here, one there", [][]endpoint{ready(here, here2, there)}, "200 OK", 2},
		{"one not ready", [][]endpoint{ready(here, there), unready(here2)}, "200 OK", 1},
		{"the last one terminating", [][]endpoint{draining(here), ready(there)}, "503 Service Unavailable", 0},
		{"none", nil, "503 Service Unavailable", 0},
		{"one again", [][]endpoint{ready(here)}, "200 OK", 1},
	} {
		t.Run(step.name, func(t *testing.T) {
			w.apply(t, s.to(step.endpoints...))
			want(t, s, step.code)
			want(t, s, weight(step.weight))
			want(t, s, `"localEndpoints": `+fmt.Sprint(step.weight))
		})
	}
	t.Run("a port that is taken", func(t *testing.T) {
		w.apply(t, other)
		w.wantLog(t, `"Load balancers cannot ask for a service's endpoints here" err="listen tcp`)
		want(t, s, weight(1))
		w.remove(t, s)
		want(t, other, `"name": "other"`) // it takes over
	})
}

// /healthz says that the node is to be deleted, /livez does not.
func TestHealthz(t *testing.T) {
	t.Parallel()
	w := newWorld(t, config{})
	at := w.Node.V4.String() + ":10256"
	check := func(t *testing.T, healthz, livez string) {
		t.Helper()
		for path, want := range map[string]string{"/healthz": healthz, "/livez": livez} {
			eventually(t, path, func() error {
				if got := get(t, w.Outside, at, path); !strings.Contains(got, want) {
					return fmt.Errorf("%s, want %q", got, want)
				}
				return nil
			})
		}
	}
	w.put(t, nodeObject(nil))
	w.apply(t, w.service("web"))
	check(t, "200 OK", "200 OK")
	check(t, `"nodeEligible":true,"healthy":true`, `"healthy":true`)
	w.put(t, nodeObject(func(n *corev1.Node) {
		n.Spec.Taints = []corev1.Taint{{Key: "ToBeDeletedByClusterAutoscaler", Effect: corev1.TaintEffectNoSchedule}}
	}))
	check(t, "503 Service Unavailable", "200 OK")
	check(t, `"nodeEligible":false,"healthy":true`, `"healthy":true`)
	w.put(t, nodeObject(nil))
	check(t, "200 OK", "200 OK")
}

// /readyz says whether all is programmed; /livez is well before, too. Rules that are there from before
// do not count: what they should be is not known yet.
func TestReadyz(t *testing.T) {
	t.Parallel()
	const at = "127.0.0.1:10246"
	w := newWorld(t, config{args: []string{"--probe-bind-address", at}})
	want := func(t *testing.T, path, answer string) {
		t.Helper()
		eventually(t, path, func() error {
			if got := get(t, w.Node, at, path); !strings.Contains(got, answer) {
				return fmt.Errorf("%s, want %q", got, answer)
			}
			return nil
		})
	}
	want(t, "/readyz", "200 OK")
	want(t, "/livez", "200 OK")
	w.stop(t)
	waiting, err := proxy.Start(w.process("run", "--master", "http://127.0.0.1:1", "--hostname-override", "node", "--probe-bind-address", at))
	if err != nil {
		t.Fatal(err)
	}
	want(t, "/livez", "200 OK")
	want(t, "/readyz", "503 Service Unavailable")
	if s := w.state(t); s.Tables == [2]*rules.Table{} {
		t.Error("there are no tables")
	}
	if err := waiting.Stop(); err != nil {
		t.Error(err)
	}
	w.start(t)
	want(t, "/readyz", "200 OK")
}
