// SPDX-License-Identifier: Apache-2.0

//go:build linux

package packets

import (
	"encoding/json"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/nftproxy/nftproxy/e2e/netns"
)

// apiServer is as much of an API server as nftproxy needs: lists, and watches to which objects are added.
type apiServer struct {
	mu      sync.Mutex
	objects map[string][]runtime.Object // by resource
	added   chan struct{}               // closed when there is another object
}

// resources are those that nftproxy watches, and the kinds of their lists.
var resources = map[string]metav1.TypeMeta{
	"services":       {APIVersion: "v1", Kind: "ServiceList"},
	"nodes":          {APIVersion: "v1", Kind: "NodeList"},
	"endpointslices": {APIVersion: "discovery.k8s.io/v1", Kind: "EndpointSliceList"},
	"servicecidrs":   {APIVersion: "networking.k8s.io/v1", Kind: "ServiceCIDRList"},
}

// serveAPI answers on a host, until the test ends.
func serveAPI(t *testing.T, host netns.Host, address string, services ...*svc) *apiServer {
	t.Helper()
	a := &apiServer{objects: map[string][]runtime.Object{}, added: make(chan struct{})}
	a.objects["nodes"] = []runtime.Object{&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node"},
		Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "172.18.0.2"}}}}}
	a.add(services...)
	var listener net.Listener
	if err := host.Do(func() (err error) { listener, err = net.Listen("tcp", address); return err }); err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: a, ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })
	return a
}

// add adds Services and their EndpointSlices.
func (a *apiServer) add(services ...*svc) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, s := range services {
		a.objects["services"] = append(a.objects["services"], s.Service)
		for _, es := range s.slices {
			a.objects["endpointslices"] = append(a.objects["endpointslices"], es)
		}
	}
	close(a.added)
	a.added = make(chan struct{})
}

func (a *apiServer) of(resource string) ([]runtime.Object, <-chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.objects[resource], a.added
}

func (a *apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	resource := r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]
	meta, ok := resources[resource]
	switch {
	case !ok:
		_, _ = w.Write([]byte("{}")) // an Event
	case r.URL.Query().Get("watch") != "":
		a.watch(w, r, resource)
	default:
		list, _ := a.of(resource)
		_ = json.NewEncoder(w).Encode(map[string]any{"apiVersion": meta.APIVersion, "kind": meta.Kind,
			"metadata": map[string]string{"resourceVersion": "1"}, "items": append([]runtime.Object{}, list...)})
	}
}

// watch tells of all objects, that these are all, and of each that is added.
func (a *apiServer) watch(w http.ResponseWriter, r *http.Request, resource string) {
	send := func(event string, object any) {
		_ = json.NewEncoder(w).Encode(map[string]any{"type": event, "object": object})
	}
	list, added := a.of(resource)
	sent := len(list)
	if r.URL.Query().Get("sendInitialEvents") == "true" {
		for _, o := range list {
			send("ADDED", o)
		}
		meta := resources[resource]
		send("BOOKMARK", map[string]any{"apiVersion": meta.APIVersion, "kind": strings.TrimSuffix(meta.Kind, "List"),
			"metadata": map[string]any{"resourceVersion": "1", "annotations": map[string]string{metav1.InitialEventsAnnotationKey: "true"}}})
	}
	for {
		_ = http.NewResponseController(w).Flush()
		select {
		case <-r.Context().Done():
			return
		case <-added:
		}
		list, added = a.of(resource)
		for _, o := range list[sent:] {
			send("ADDED", o)
		}
		sent = len(list)
	}
}
