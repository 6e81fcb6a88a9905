// SPDX-License-Identifier: Apache-2.0

package ask

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/nftproxy/nftproxy/proxier"
	"github.com/nftproxy/nftproxy/proxier/cluster"
	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/rulestest"
)

// daemon returns one that has n Services of ten endpoints each, s0 to s(n-1), but for s0, which has none.
func daemon(t testing.TB, n int) *Daemon {
	t.Helper()
	p := proxier.New(proxier.Config{Cluster: cluster.Config{NodeName: "here"}, Kernel: &rulestest.Kernel{}})
	p.ReplaceNodes(nil)
	p.ReplaceServiceCIDRs(nil)
	var services []*corev1.Service
	var slices []*discoveryv1.EndpointSlice
	for i := range n {
		name := "s" + string(rune('0'+i%10))
		if n > 10 {
			name = "s" + netip.AddrFrom4([4]byte{0, 0, byte(i >> 8), byte(i)}).String()
		}
		meta := metav1.ObjectMeta{Namespace: "default", Name: name}
		services = append(services, &corev1.Service{ObjectMeta: meta, Spec: corev1.ServiceSpec{ClusterIP: netip.AddrFrom4([4]byte{10, 96, byte(i >> 8), byte(i)}).String(),
			Ports: []corev1.ServicePort{{Name: "http", Port: 80}}}})
		if i == 0 {
			continue
		}
		es := &discoveryv1.EndpointSlice{ObjectMeta: meta, AddressType: discoveryv1.AddressTypeIPv4, Ports: []discoveryv1.EndpointPort{{Name: ptr.To("http"), Port: ptr.To[int32](8080)}}}
		es.Labels = map[string]string{discoveryv1.LabelServiceName: name}
		for e := range 10 {
			es.Endpoints = append(es.Endpoints, discoveryv1.Endpoint{Addresses: []string{netip.AddrFrom4([4]byte{10, byte(1 + e), byte(i >> 8), byte(i)}).String()},
				TargetRef: &corev1.ObjectReference{Kind: "Pod", Name: "pod"}, NodeName: ptr.To("there")})
		}
		slices = append(slices, es)
	}
	headless := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "headless"}, Spec: corev1.ServiceSpec{ClusterIP: "None"}}
	p.ReplaceServices(append(services, headless))
	p.ReplaceEndpointSlices(slices)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- p.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-ended })
	<-p.Synced()
	return &Daemon{Version: "v1", Node: "here", Table: "nftproxy", Proxier: p, Local: func() []netip.Addr { return nil },
		Scan: func(things []rules.Thing, to rules.Parts) error { to.Begin(); return nil }}
}

// TestPaths: what each path answers, and which faults.
func TestPaths(t *testing.T) {
	h := daemon(t, 5).Handler()
	for path, want := range map[string]struct {
		status int
		text   string
	}{
		"/v1/version":          {200, `"table":"nftproxy"`},
		"/v1/services":         {200, `"name":"s4"`},
		"/v1/services?limit=2": {200, `"continue":"default/s1"`},
		"/v1/services?limit=2&continue=default/s2":          {200, `"name":"s4"`},
		"/v1/services?namespace=none":                       {200, `{"services":[]}`},
		"/v1/services?limit=0":                              {400, "limit"},
		"/v1/services?limit=1001":                           {400, "limit"},
		"/v1/services?continue=x":                           {400, "continue"},
		"/v1/services/default/s0":                           {200, `"state":"no endpoints"`},
		"/v1/services/default/s1":                           {200, `"endpointsUsed":10,"endpointsReady":10,"endpoints":10,"state":"ok"`},
		"/v1/services/default/none":                         {404, "there is no Service default/none"},
		"/v1/services/default/headless":                     {404, "is headless"},
		"/v1/explain?target=default/s1":                     {200, `"pod":"default/pod","node":"there"`},
		"/v1/explain?target=10.96.0.1:80/tcp&from=node":     {200, `"from":"this node"`},
		"/v1/explain?target=10.96.0.1:80/tcp&from=10.9.9.9": {200, `"outcome":"answer"`},
		"/v1/explain?target=10.96.0.1:81/tcp":               {404, "is not served"},
		"/v1/explain?target=default/headless":               {410, "is headless"},
		"/v1/explain?target=default/none":                   {404, "there is no Service"},
		"/v1/explain?target=x":                              {400, "is neither"},
		"/v1/explain?target=default/s1&from=a/b":            {422, "is neither an address"},
		"/v2":                                               {404, "there is no GET /v2"},
	} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		if w.Code != want.status || !strings.Contains(w.Body.String(), want.text) || !json.Valid(w.Body.Bytes()) {
			t.Errorf("%s: %d %s; want %d with %s", path, w.Code, w.Body, want.status, want.text)
		}
	}
}

// TestSocket: a socket takes the place of one that is left, is for its user alone, and goes when it ends.
func TestSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a", "x.sock")
	first, err := listen(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	_ = first.Close() // as a killed process leaves it
	second, err := listen(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	first.remove() // is not its own any more
	info, err := os.Lstat(path)
	if err != nil || info.Mode() != os.ModeSocket|0o600 {
		t.Errorf("%v, %v", info, err)
	}
	go func() {
		if c, err := second.Accept(); err == nil {
			_ = c.Close()
		}
	}()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := trusted(c.(*net.UnixConn)); err != nil {
		t.Error(err)
	}
	second.remove()
	if _, err := os.Lstat(path); err == nil {
		t.Error("the socket is there after its end")
	}
	if _, err := listen(t.Context(), "/proc/none/x.sock"); err == nil || !strings.Contains(err.Error(), "--socket") {
		t.Errorf("a directory that cannot be made: %v", err)
	}
}

func BenchmarkExplain(b *testing.B) {
	h := daemon(b, 10000).Handler()
	for b.Loop() {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/v1/explain?target=default/s0.0.1.1&from=10.9.9.9", nil))
		if w.Code != 200 {
			b.Fatal(w.Body)
		}
	}
}

func BenchmarkServices(b *testing.B) {
	h := daemon(b, 10000).Handler()
	for b.Loop() {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/v1/services", nil))
		if w.Code != 200 {
			b.Fatal(w.Body)
		}
	}
}
