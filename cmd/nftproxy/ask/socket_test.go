// SPDX-License-Identifier: Apache-2.0

package ask

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"github.com/nftproxy/nftproxy/conntrack"
	"github.com/nftproxy/nftproxy/proxier"
	"github.com/nftproxy/nftproxy/proxier/cluster"
	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/rulestest"
)

// kernel is read as a table's.
type kernel struct{ *rulestest.Kernel }

func (k kernel) scan(things []rules.Thing, to rules.Parts) error {
	state := k.State()
	state.Scan(things, to)
	return nil
}

// each calls fn for connections to s1, to an endpoint of it and to one that is gone, and one that is no Service's.
func each(fn func(conntrack.Flow)) {
	flow := func(client byte, to, endpoint [4]byte) {
		c := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 9, 9, client}), 40000)
		e := netip.AddrPortFrom(netip.AddrFrom4(endpoint), 8080)
		fn(conntrack.Flow{Protocol: rules.TCP, Bytes: 100, Orig: conntrack.Tuple{Src: c, Dst: netip.AddrPortFrom(netip.AddrFrom4(to), 80)}, Reply: conntrack.Tuple{Src: e, Dst: c}})
	}
	flow(1, [4]byte{10, 96, 0, 1}, [4]byte{10, 1, 0, 1})
	flow(2, [4]byte{10, 96, 0, 1}, [4]byte{10, 1, 0, 1})
	flow(3, [4]byte{10, 96, 0, 1}, [4]byte{10, 1, 0, 9})
	flow(4, [4]byte{10, 97, 0, 1}, [4]byte{10, 1, 0, 1})
}

// daemon returns one that has n Services of ten endpoints each, s0 to s(n-1), but for s0, which has none.
func daemon(t testing.TB, n int) *Daemon {
	t.Helper()
	k := kernel{&rulestest.Kernel{}}
	p := proxier.New(proxier.Config{Cluster: cluster.Config{NodeName: "here"}, Kernel: k})
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
		labelled := meta
		labelled.Labels = map[string]string{"n": strconv.Itoa(i)}
		services = append(services, &corev1.Service{ObjectMeta: labelled, Spec: corev1.ServiceSpec{ClusterIP: netip.AddrFrom4([4]byte{10, 96, byte(i >> 8), byte(i)}).String(),
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
	z := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "z"}, Spec: corev1.ServiceSpec{ClusterIP: "10.96.0.1", Ports: []corev1.ServicePort{{Name: "http", Port: 80}}}}
	if n < 10 { // and z, which wants what s1 has
		services = append(services, z)
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
		Scan:  k.scan,
		Flows: func(_ context.Context, fn func(conntrack.Flow)) error { each(fn); return nil },
		Clients: func(wanted func(rules.ServicePortName) bool, fn func(StickyEntry)) error {
			for i, name := range []string{"s1", "s2", "s2"} {
				of := rules.Owner{ServicePortName: rules.ServicePortName{Namespace: "default", Name: name, Port: "http"}}
				if wanted(of.ServicePortName) {
					fn(StickyEntry{of, false, netip.AddrFrom4([4]byte{10, 9, 9, byte(9 - i)}), netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, 0, byte(i)}), 8080), 10000})
				}
			}
			return nil
		},
		Counts: func() (map[rules.Owner]uint64, error) {
			return map[rules.Owner]uint64{{ServicePortName: rules.ServicePortName{Namespace: "default", Name: "s1", Port: "http"}}: 7}, nil
		}}
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
		"/v1/services?limit=2&continue=default/s2":      {200, `"name":"s4"`},
		"/v1/services?namespace=none":                   {200, `{"services":[]}`},
		"/v1/services?limit=0":                          {400, "limit"},
		"/v1/services?limit=1001":                       {400, "limit"},
		"/v1/services?continue=x":                       {400, "continue"},
		"/v1/services/default/s0":                       {200, `"state":"no endpoints"`},
		"/v1/services/default/s1":                       {200, `"endpointsUsed":10,"endpointsReady":10,"endpoints":10,"state":"ok"`},
		"/v1/services/default/none":                     {404, "there is no Service default/none"},
		"/v1/services/default/headless":                 {404, "is headless"},
		"/v1/endpoints?namespace=default&name=s1":       {200, `"of":{"service":"default/s1","port":"http","number":80,"protocol":"tcp","family":"ip"},"address":"10.1.0.1:8080","pod":"default/pod","node":"there"`},
		"/v1/endpoints?limit=2":                         {200, `"continue":"default/s1"`},
		"/v1/endpoints?limit=2&continue=default/s2":     {200, `"name":"s4"`},
		"/v1/endpoints?namespace=default&name=headless": {404, "is headless"},
		"/v1/conflicts":                                 {200, `{"conflicts":[{"namespace":"default","name":"z","port":"http","family":"ip","frontend":"10.96.0.1:80/tcp","holder":"default/s1:http","why":"which the older`},
		"/v1/conflicts?namespace=none":                  {200, `{"conflicts":[]}`},
		"/v1/refused":                                   {200, `{"refused":[]}`},
		"/v1/refused?limit=x":                           {400, "limit"},
		"/v1/transactions":                              {200, `"number":1`},
		"/v1/transactions?continue=1":                   {200, `{"transactions":[]}`},
		"/v1/transactions?continue=x":                   {400, "continue"},
		"/v1/services/default/z":                        {200, `"state":"conflict"`},
		"/v1/services?selector=n=2":                     {200, `{"services":[{"namespace":"default","name":"s2"`},
		"/v1/services?selector=n=,":                     {400, "selector"},
		"/v1/conflicts?selector=n":                      {200, `{"conflicts":[]}`},
		"/v1/diff":                                      {200, `{"equal":true,"servicePorts":5,"differences":[]}`},
		"/v1/diff?limit=x":                              {400, "limit"},
		"/v1/drift":                                     {200, `{"equal":true,"compared":"`},
		"/v1/connections":                               {200, `{"connections":[{"namespace":"default","name":"s1","port":"http","family":"ip","frontend":"10.96.0.1:80/tcp","endpoint":"10.1.0.1:8080","open":2,"bytes":200,"used":true},{`},
		"/v1/connections?limit=1":                       {200, `"continue":"default s1 http ip 10.96.0.1:80/tcp 10.1.0.1:8080"`},
		"/v1/connections?limit=1&continue=default+s1+http+ip+10.96.0.1:80/tcp+10.1.0.1:8080": {200, `"endpoint":"10.1.0.9:8080","open":1,"bytes":100,"used":false}],`},
		"/v1/connections?name=s2&namespace=default":                                          {200, `{"connections":[],`},
		"/v1/connections?selector=n=2":                                                       {200, `{"connections":[],`},
		"/v1/connections?selector=,":                                                         {400, "selector"},
		"/v1/affinity":                                                                       {200, `{"clients":[{"namespace":"default","name":"s1","port":"http","family":"ip","client":"10.9.9.9","endpoint":"10.1.0.0:8080","trafficPolicy":"Cluster","seconds":10,"endpointGone":true},{"namespace":"default","name":"s2","port":"http","family":"ip","client":"10.9.9.7","endpoint":"10.1.0.2:8080","trafficPolicy":"Cluster","seconds":10},`},
		"/v1/affinity?limit=1":                                                               {200, `"more":2`},
		"/v1/affinity?namespace=none":                                                        {200, `{"clients":[]}`},
		"/v1/affinity?selector=n=3":                                                          {200, `{"clients":[]}`},
		"/v1/counts":                                                                         {200, `"counts":[{"namespace":"default","name":"s1","port":"http","family":"ip","newConnections":7}]`},
		"/v1/counts?namespace=none":                                                          {200, `"counts":[]`},
		"/v1/explain?target=default/s1":                                                      {200, `"pod":"default/pod","node":"there"`},
		"/v1/explain?target=10.96.0.1:80/tcp&from=node":                                      {200, `"from":"this node"`},
		"/v1/explain?target=10.96.0.1:80/tcp&from=10.9.9.9":                                  {200, `"outcome":"answer"`},
		"/v1/explain?target=10.96.0.1:81/tcp":                                                {404, "is not served"},
		"/v1/explain?target=default/headless":                                                {410, "is headless"},
		"/v1/explain?target=default/none":                                                    {404, "there is no Service"},
		"/v1/explain?target=x":                                                               {400, "is neither"},
		"/v1/explain?target=default/s1&from=a/b":                                             {422, "is neither an address"},
		"/v2":                                                                                {404, "there is no GET /v2"},
	} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		if w.Code != want.status || !strings.Contains(w.Body.String(), want.text) || !json.Valid(w.Body.Bytes()) {
			t.Errorf("%s: %d %s; want %d with %s", path, w.Code, w.Body, want.status, want.text)
		}
	}
}

// TestDiff: a difference has its counts, and of many some are told.
func TestDiff(t *testing.T) {
	k := &rulestest.Kernel{}
	d := daemon(t, 3)
	d.Scan = func(things []rules.Thing, to rules.Parts) error {
		state := k.State() // empty: there are no tables
		state.Scan(things, to)
		return nil
	}
	var got Diff
	w := httptest.NewRecorder()
	d.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/v1/diff?limit=1", nil))
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || got.Equal || len(got.Differences) != 1 || got.More != 1 || got.Counts[rules.Missing] != 2 {
		t.Errorf("%v, %s", err, w.Body)
	}
}

// TestBudget: what costs is done by one at a time, and waits as long as it is told to.
func TestBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, began, running := newBudget(4), time.Now(), 0
		var all sync.WaitGroup
		for range 3 {
			all.Go(func() {
				if err := b.do(t.Context(), func() error {
					if running++; running > 1 {
						t.Error("two at once")
					}
					time.Sleep(time.Second)
					running--
					return nil
				}); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if took := time.Since(began); took != 11*time.Second {
			t.Errorf("three times a second took %v", took)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := b.do(ctx, func() error { return nil }); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("who gives up: %v", err)
		}
	})
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
		if c, aerr := second.Accept(); aerr == nil {
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

// served serves a daemon at a socket and returns its client.
func served(t *testing.T, d *Daemon) *Client {
	t.Helper()
	path := filepath.Join(t.TempDir(), "x.sock")
	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan struct{}), make(chan error)
	go func() { ended <- d.Serve(ctx, path, func() { close(ready) }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	<-ready
	c, err := Dial(t.Context(), path, d.Table)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestClient: all pages make the list, and a fault has its status.
func TestClient(t *testing.T) {
	c := served(t, daemon(t, 2500))
	list, err := c.Services(t.Context(), Choice{})
	if err != nil || len(list) != 2500 {
		t.Errorf("%d Services, %v", len(list), err)
	}
	var refused *Refused
	if _, err := c.Service(t.Context(), "default", "headless"); !errors.As(err, &refused) || refused.Status != http.StatusNotFound {
		t.Errorf("%v", err)
	}
	if _, err := Dial(t.Context(), c.path, "other"); err == nil || !strings.Contains(err.Error(), "of table nftproxy") {
		t.Errorf("another table's: %v", err)
	}
}

// TestSlow: clients that ask and do not read, and those that say nothing, keep nobody from an answer.
func TestSlow(t *testing.T) {
	c := served(t, daemon(t, 2000))
	for i := range 3 * mostClients {
		slow, err := net.Dial("unix", c.path)
		if err != nil {
			t.Fatal(err)
		}
		defer slow.Close()
		if i%3 == 0 {
			continue
		}
		if _, err := io.WriteString(slow, "GET /v1/services?limit=1000 HTTP/1.1\r\nHost: n\r\n\r\n"); err != nil {
			continue // its place was another's
		}
	}
	for range mostClients {
		if _, err := c.Explain(t.Context(), "default/s0.0.1.1", nil); err != nil {
			t.Fatal(err)
		}
	}
}

// TestLines: what would be too long is refused before it is made.
func TestLines(t *testing.T) {
	d := daemon(t, 2)
	n := cluster.ObjectName{Namespace: "default", Name: "s1"}
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: n.Namespace, Name: n.Name}, Spec: corev1.ServiceSpec{ClusterIP: "10.96.0.1"}}
	for i := range 180 {
		svc.Spec.ExternalIPs = append(svc.Spec.ExternalIPs, netip.AddrFrom4([4]byte{172, 16, 0, byte(i)}).String())
	}
	for i := range 60 {
		svc.Spec.Ports = append(svc.Spec.Ports, corev1.ServicePort{Name: "p" + strconv.Itoa(i), Port: int32(1 + i), TargetPort: intstr.FromInt32(80)})
	}
	slice := &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Namespace: n.Namespace, Name: n.Name, Labels: map[string]string{discoveryv1.LabelServiceName: n.Name}},
		AddressType: discoveryv1.AddressTypeIPv4}
	for _, p := range svc.Spec.Ports {
		slice.Ports = append(slice.Ports, discoveryv1.EndpointPort{Name: ptr.To(p.Name), Port: ptr.To[int32](8080)})
	}
	for i := range 20 {
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{Addresses: []string{netip.AddrFrom4([4]byte{10, 1, 0, byte(i)}).String()}})
	}
	d.Proxier.UpdateService(svc)
	d.Proxier.UpdateEndpointSlice(slice)
	w := httptest.NewRecorder()
	d.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/v1/explain?target=default/s1", nil))
	if w.Code != http.StatusRequestEntityTooLarge || !strings.Contains(w.Body.String(), "it would take") {
		t.Errorf("%d %.300s", w.Code, w.Body)
	}
	w = httptest.NewRecorder()
	d.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/v1/services", nil))
	var page Services
	if err := json.Unmarshal(w.Body.Bytes(), &page); err != nil || page.Continue != "default/s1" {
		t.Errorf("%v; s1 does not end the page: %q", err, page.Continue)
	}
	w = httptest.NewRecorder()
	d.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/v1/explain?target=default/s1:p1&from=10.9.9.9", nil))
	if w.Code != http.StatusOK {
		t.Errorf("one port to one client: %d %.300s", w.Code, w.Body)
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
