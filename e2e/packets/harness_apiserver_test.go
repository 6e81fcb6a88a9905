// SPDX-License-Identifier: Apache-2.0

//go:build linux

package packets

import (
	"encoding/json"
	"net"
	"net/http"
	"strconv"
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
	objects map[string][]runtime.Object // by resource, in the order of their versions
	version int                         // of the newest one
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
	a.put("nodes", &corev1.Node{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Node"}, ObjectMeta: metav1.ObjectMeta{Name: "node"},
		Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "172.18.0.2"}}}})
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
		a.put("services", s.Service)
		for _, es := range s.slices {
			a.put("endpointslices", es)
		}
	}
	close(a.added)
	a.added = make(chan struct{})
}

// put adds an object. a.mu is held, or nobody else has a yet.
func (a *apiServer) put(resource string, o interface {
	runtime.Object
	metav1.Object
}) {
	a.version++
	o.SetResourceVersion(strconv.Itoa(a.version))
	a.objects[resource] = append(a.objects[resource], o)
}

// after returns the objects that are newer than a version, which version is the newest one, and what tells of others.
func (a *apiServer) after(version int, resource string) (list []runtime.Object, newest int, added <-chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, o := range a.objects[resource] {
		if v, _ := strconv.Atoi(o.(metav1.Object).GetResourceVersion()); v > version {
			list = append(list, o)
		}
	}
	return list, a.version, a.added
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
		list, newest, _ := a.after(0, resource)
		_ = json.NewEncoder(w).Encode(map[string]any{"apiVersion": meta.APIVersion, "kind": meta.Kind,
			"metadata": map[string]string{"resourceVersion": strconv.Itoa(newest)}, "items": append([]runtime.Object{}, list...)})
	}
}

// watch tells of the objects that are newer than a version; if that is asked for of all, and that these are all; and of
// each that is added.
func (a *apiServer) watch(w http.ResponseWriter, r *http.Request, resource string) {
	send := func(event string, object any) {
		_ = json.NewEncoder(w).Encode(map[string]any{"type": event, "object": object})
	}
	version, _ := strconv.Atoi(r.URL.Query().Get("resourceVersion"))
	initial := r.URL.Query().Get("sendInitialEvents") == "true"
	if initial {
		version = 0
	}
	for {
		list, newest, added := a.after(version, resource)
		for _, o := range list {
			send("ADDED", o)
		}
		if version = newest; initial {
			initial = false
			meta := resources[resource]
			send("BOOKMARK", map[string]any{"apiVersion": meta.APIVersion, "kind": strings.TrimSuffix(meta.Kind, "List"),
				"metadata": map[string]any{"resourceVersion": strconv.Itoa(newest), "annotations": map[string]string{metav1.InitialEventsAnnotationKey: "true"}}})
		}
		_ = http.NewResponseController(w).Flush()
		select {
		case <-r.Context().Done():
			return
		case <-added:
		}
	}
}
