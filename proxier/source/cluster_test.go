// SPDX-License-Identifier: Apache-2.0

package source

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/nftproxy/nftproxy/proxier/apiclient"
	"github.com/nftproxy/nftproxy/proxier/source/sourcetest"
)

const (
	pathServices = "/api/v1/services"
	pathSlices   = "/apis/discovery.k8s.io/v1/endpointslices"
	pathNodes    = "/api/v1/nodes"
	pathCIDRs    = "/apis/networking.k8s.io/v1/servicecidrs"
)

// apiServer answers lists and watches with what the test says. It checks the selectors instead of applying them.
type apiServer struct {
	t         *testing.T
	watchList bool // sends the first list through the watch
	proxyName string
	oldFields bool // does not know spec.clusterIP in a field selector

	mu        sync.Mutex
	objects   map[string][]any
	events    map[string]chan string
	forbidden bool
	lists     int
}

func newAPIServer(t *testing.T, watchList bool) (*apiServer, *apiclient.Client) {
	t.Helper()
	s := &apiServer{
		t: t, watchList: watchList, objects: map[string][]any{},
		events: map[string]chan string{},
	}
	for _, path := range []string{pathServices, pathSlices, pathNodes, pathCIDRs} {
		s.events[path] = make(chan string)
	}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	return s, client(t, server.URL)
}

func client(t *testing.T, address string) *apiclient.Client {
	t.Helper()
	c, err := apiclient.New(&rest.Config{Host: address, ContentConfig: rest.ContentConfig{ContentType: "application/json"}})
	must(t, err)
	return c
}

func (s *apiServer) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	query := request.URL.Query()
	s.checkSelectors(request.URL.Path, query)
	w.Header().Set("Content-Type", "application/json")
	s.mu.Lock()
	forbidden, objects, events := s.forbidden, s.objects[request.URL.Path], s.events[request.URL.Path]
	s.mu.Unlock()
	switch {
	case s.oldFields && strings.HasPrefix(query.Get("fieldSelector"), "spec."):
		reply(w, http.StatusBadRequest, metav1.StatusReasonBadRequest, "field label not supported: spec.clusterIP")
	case forbidden:
		reply(w, http.StatusForbidden, metav1.StatusReasonForbidden, "not you")
	case query.Get("watch") == "":
		s.mu.Lock()
		s.lists++
		s.mu.Unlock()
		_ = json.NewEncoder(w).Encode(map[string]any{"metadata": metav1.ListMeta{ResourceVersion: "5"}, "items": objects})
	case query.Get("sendInitialEvents") == "true" && !s.watchList:
		reply(w, http.StatusUnprocessableEntity, metav1.StatusReasonInvalid, "sendInitialEvents is forbidden")
	default:
		if query.Get("sendInitialEvents") == "true" {
			for _, o := range objects {
				fmt.Fprintln(w, event("ADDED", o))
			}
			fmt.Fprintln(w, bookmark(request.URL.Path))
		}
		stream(request.Context(), w, events)
	}
}

func (s *apiServer) checkSelectors(path string, query url.Values) {
	ours := "!service.kubernetes.io/service-proxy-name"
	if s.proxyName != "" {
		ours = "service.kubernetes.io/service-proxy-name=" + s.proxyName
	}
	want := map[string][2]string{
		pathServices: {ours, "spec.clusterIP!=None"},
		pathSlices:   {"!service.kubernetes.io/headless", ""},
		pathNodes:    {"", "metadata.name=n1"},
		pathCIDRs:    {"", ""},
	}
	if s.oldFields && query.Get("fieldSelector") == "" {
		want[pathServices] = [2]string{ours, ""} // refused with one
	}
	if got := [2]string{query.Get("labelSelector"), query.Get("fieldSelector")}; got != want[path] {
		s.t.Errorf("%s: selectors %q, want %q", path, got, want[path])
	}
}

func stream(ctx context.Context, w http.ResponseWriter, events <-chan string) {
	w.(http.Flusher).Flush()
	for {
		select {
		case <-ctx.Done():
			return
		case e := <-events:
			fmt.Fprintln(w, e)
			w.(http.Flusher).Flush()
		}
	}
}

func reply(w http.ResponseWriter, code int, reason metav1.StatusReason, message string) {
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(metav1.Status{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"},
		Status:   metav1.StatusFailure, Code: int32(code), Reason: reason, Message: message,
	})
}

func event(kind string, object any) string {
	out, _ := json.Marshal(map[string]any{"type": kind, "object": object})
	return string(out)
}

func bookmark(path string) string {
	object := map[string]any{pathServices: apiService("", ""), pathSlices: apiSlice("", ""), pathNodes: apiNode(""), pathCIDRs: apiServiceCIDR("")}[path]
	meta := object.(metav1.Object)
	meta.SetAnnotations(map[string]string{metav1.InitialEventsAnnotationKey: "true"})
	return event("BOOKMARK", object)
}

func meta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Name: name, Namespace: "ns", ResourceVersion: "5", ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "x"}},
	}
}

func apiService(name, ip string) *corev1.Service {
	return &corev1.Service{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Service"},
		ObjectMeta: meta(name), Spec: corev1.ServiceSpec{ClusterIP: ip},
	}
}

func apiSlice(name, address string) *discoveryv1.EndpointSlice {
	return &discoveryv1.EndpointSlice{
		TypeMeta:   metav1.TypeMeta{APIVersion: "discovery.k8s.io/v1", Kind: "EndpointSlice"},
		ObjectMeta: meta(name), Endpoints: []discoveryv1.Endpoint{{Addresses: []string{address}}},
	}
}

func apiNode(name string) *corev1.Node {
	n := &corev1.Node{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Node"}, ObjectMeta: meta(name)}
	n.Namespace = ""
	return n
}

func apiServiceCIDR(name string, cidrs ...string) *networkingv1.ServiceCIDR {
	c := &networkingv1.ServiceCIDR{
		TypeMeta:   metav1.TypeMeta{APIVersion: "networking.k8s.io/v1", Kind: "ServiceCIDR"},
		ObjectMeta: meta(name), Spec: networkingv1.ServiceCIDRSpec{CIDRs: cidrs},
	}
	c.Namespace = ""
	return c
}

func (s *apiServer) send(path, kind string, object any) {
	s.t.Helper()
	select {
	case s.events[path] <- event(kind, object):
	case <-time.After(time.Minute):
		s.t.Fatalf("nobody watches %s", path)
	}
}

func TestClusterFollowsChanges(t *testing.T) {
	t.Parallel()
	for _, watchList := range []bool{false, true} {
		t.Run(fmt.Sprintf("watchList=%v", watchList), func(t *testing.T) {
			t.Parallel()
			server, api := newAPIServer(t, watchList)
			server.objects[pathServices] = []any{apiService("web", "10.0.0.1")}
			server.objects[pathSlices] = []any{apiSlice("web-1", "10.1.0.1")}
			server.objects[pathNodes] = []any{apiNode("n1")}
			server.objects[pathCIDRs] = []any{apiServiceCIDR("kubernetes", "10.96.0.0/16")}
			r := sourcetest.New(t)
			sourcetest.Run(r, Cluster{Client: api, NodeName: "n1", Warn: r.Warn}.Run)
			r.ExpectSorted("services [ns/web]", "slices [ns/web-1]", "nodes [n1]", "cidrs [kubernetes]")

			server.send(pathServices, "ADDED", apiService("api", "10.0.0.2"))
			r.Expect("service ns/api 10.0.0.2")
			server.send(pathServices, "MODIFIED", apiService("api", "10.0.0.3"))
			r.Expect("service ns/api 10.0.0.3")
			server.send(pathServices, "DELETED", apiService("api", "10.0.0.3"))
			r.Expect("delete service ns/api")
			server.send(pathSlices, "MODIFIED", apiSlice("web-1", "10.1.0.2"))
			r.Expect("slice ns/web-1 [10.1.0.2]")
			server.send(pathSlices, "DELETED", apiSlice("web-1", "10.1.0.2"))
			r.Expect("delete slice ns/web-1")
			server.send(pathNodes, "MODIFIED", apiNode("n1"))
			r.Expect("node n1")
			server.send(pathNodes, "DELETED", apiNode("n1"))
			r.Expect("delete node n1")
			server.send(pathCIDRs, "ADDED", apiServiceCIDR("extra", "10.97.0.0/16", "fd00::/108"))
			r.Expect("cidr extra [10.97.0.0/16 fd00::/108]")
			server.send(pathCIDRs, "DELETED", apiServiceCIDR("extra"))
			r.Expect("delete cidr extra")
			r.ExpectWarnings()

			if r.Service("api").ManagedFields != nil {
				t.Error("managedFields are kept")
			}
			server.mu.Lock()
			defer server.mu.Unlock()
			if watchList && server.lists > 0 {
				t.Errorf("%d lists, although the server sends the first list through the watch", server.lists)
			}
		})
	}
}

func TestClusterWithoutNode(t *testing.T) {
	t.Parallel()
	_, api := newAPIServer(t, true)
	r := sourcetest.New(t)
	sourcetest.Run(r, Cluster{Client: api}.Run) // a request for nodes would fail the selectors' check
	r.ExpectSorted("services []", "slices []", "nodes []", "cidrs []")
}

func TestClusterServiceProxyName(t *testing.T) {
	t.Parallel()
	server, api := newAPIServer(t, true)
	server.proxyName = "mine"
	r := sourcetest.New(t)
	sourcetest.Run(r, Cluster{Client: api, ServiceProxyName: "mine"}.Run)
	r.ExpectSorted("services []", "slices []", "nodes []", "cidrs []")
}

// TestClusterOldFields: an API server that does not know the field selector is asked without.
func TestClusterOldFields(t *testing.T) {
	t.Parallel()
	for _, watchList := range []bool{false, true} {
		server, api := newAPIServer(t, watchList)
		server.oldFields = true
		server.objects[pathServices] = []any{apiService("web", "10.0.0.1")}
		r := sourcetest.New(t)
		sourcetest.Run(r, Cluster{Client: api, NodeName: "n1", Warn: r.Warn}.Run)
		r.ExpectSorted("services [ns/web]", "slices []", "nodes []", "cidrs []")
		server.send(pathServices, "ADDED", apiService("api", "10.0.0.2"))
		r.Expect("service ns/api 10.0.0.2")
		r.ExpectWarnings()
	}
}

func TestClusterWarnsAndRecovers(t *testing.T) {
	t.Parallel()
	server, api := newAPIServer(t, true)
	server.forbidden = true
	r := sourcetest.New(t)
	sourcetest.Run(r, Cluster{Client: api, NodeName: "n1", Warn: r.Warn}.Run)
	want := []string{
		`list Services at the API server, trying again: not you; allow it with a ClusterRole (apiGroups: [""], resources: ["services"], verbs: ["list"])`,
		`list EndpointSlices at the API server, trying again: not you; allow it with a ClusterRole (apiGroups: ["discovery.k8s.io"], resources: ["endpointslices"], verbs: ["list"])`,
		`list Node n1 at the API server, trying again: not you; allow it with a ClusterRole (apiGroups: [""], resources: ["nodes"], verbs: ["list"])`,
		`list ServiceCIDRs at the API server, going on without: not you; allow it with a ClusterRole (apiGroups: ["networking.k8s.io"], resources: ["servicecidrs"], verbs: ["list"])`,
	}
	r.AwaitWarnings(want...)
	server.mu.Lock()
	server.forbidden = false
	server.mu.Unlock()
	r.ExpectSorted("services []", "slices []", "nodes []", "cidrs []")
}

func TestClusterUnreachable(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := sourcetest.New(t)
		_, c := scriptedCluster(t, r, func(*http.Request) (*http.Response, error) { return nil, syscall.ECONNREFUSED })
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		done := make(chan error, 1)
		go func() { done <- c.Run(ctx, r) }()
		r.AwaitWarnings("watch Services at the API server, trying again", "check the address of the API server")
		// The reflectors sleep now; Run does not wait for that.
		stopped := time.Now()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		if waited := time.Since(stopped); waited > 0 {
			t.Errorf("Run took %v to end", waited)
		}
		if lines, _ := r.Take(); len(lines) > 0 {
			t.Errorf("the sink was told %v", lines)
		}
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestServiceProxyNameThatCannotBe(t *testing.T) {
	t.Parallel()
	r := sourcetest.New(t)
	if err := (Cluster{ServiceProxyName: "a,b=c"}).Run(context.Background(), r); err == nil || !strings.Contains(err.Error(), "service proxy name") {
		t.Errorf("got error %v, want one about the service proxy name", err)
	}
	if lines, _ := r.Take(); len(lines) > 0 {
		t.Errorf("the sink was told %q", lines)
	}
}
