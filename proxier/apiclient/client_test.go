// SPDX-License-Identifier: Apache-2.0

package apiclient

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"testing"

	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

// TestRequests: each client asks for its own resource of its own API, and reads the answer.
func TestRequests(t *testing.T) {
	t.Parallel()
	var asked string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = r.Method + " " + r.URL.Path
		w.Header().Set("Content-Type", "application/json")
		switch {
		case r.URL.Path == "/version":
			fmt.Fprint(w, `{"gitVersion":"v1.99.0"}`)
		case r.Method == http.MethodPost:
			fmt.Fprint(w, `{"kind":"SelfSubjectAccessReview","apiVersion":"authorization.k8s.io/v1","status":{"allowed":true}}`)
		default:
			fmt.Fprint(w, `{"metadata":{"resourceVersion":"7"},"items":[{"metadata":{"name":"one"}}]}`)
		}
	}))
	t.Cleanup(server.Close)
	c, err := New(&rest.Config{Host: server.URL, ContentConfig: rest.ContentConfig{ContentType: "application/json"}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, all := t.Context(), metav1.ListOptions{}
	for want, ask := range map[string]func() (int, error){
		"GET /api/v1/services":                            func() (int, error) { l, err := c.Services("").List(ctx, all); return len(l.Items), err },
		"GET /api/v1/namespaces/ns/services":              func() (int, error) { l, err := c.Services("ns").List(ctx, all); return len(l.Items), err },
		"GET /apis/discovery.k8s.io/v1/endpointslices":    func() (int, error) { l, err := c.EndpointSlices("").List(ctx, all); return len(l.Items), err },
		"GET /apis/networking.k8s.io/v1/servicecidrs":     func() (int, error) { l, err := c.ServiceCIDRs().List(ctx, all); return len(l.Items), err },
		"GET /api/v1/nodes":                               func() (int, error) { l, err := c.Nodes().List(ctx, all); return len(l.Items), err },
		"GET /api/v1/namespaces/ns/pods":                  func() (int, error) { l, err := c.Pods("ns").List(ctx, all); return len(l.Items), err },
		"GET /apis/events.k8s.io/v1/namespaces/ns/events": func() (int, error) { l, err := c.Events("ns").List(ctx, all); return len(l.Items), err },
		"POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews": func() (int, error) {
			yes, err := c.MayI(ctx, authorizationv1.ResourceAttributes{Verb: "list", Resource: "services"})
			return map[bool]int{true: 1}[yes], err
		},
		"GET /version": func() (int, error) {
			v, err := c.Version(ctx)
			return strings.Count(v.GitVersion, "v1.99.0"), err
		},
	} {
		if n, err := ask(); err != nil || n != 1 || asked != want {
			t.Errorf("asked %s and got %d, %v; want %s and 1", asked, n, err, want)
		}
	}
}

// TestBadConfig: what cannot work is told.
func TestBadConfig(t *testing.T) {
	t.Parallel()
	if _, err := New(&rest.Config{Host: "http://h", QPS: 5}); err == nil || !strings.Contains(err.Error(), "burst") {
		t.Errorf("a limit without burst: %v", err)
	}
	c, err := New(&rest.Config{Host: "http://127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Version(ctx); err == nil {
		t.Error("a version without a server")
	}
}

// TestOtherAPIsAreNotLinked: the program has the types of those APIs that it uses, and no others.
func TestOtherAPIsAreNotLinked(t *testing.T) {
	t.Parallel()
	cmd := exec.Command("go", "list", "-deps", "../../cmd/nftproxy")
	cmd.Env = append(cmd.Environ(), "CGO_ENABLED=0")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var apis []string
	for p := range strings.FieldsSeq(string(out)) {
		if name, ok := strings.CutPrefix(p, "k8s.io/api/"); ok {
			apis = append(apis, name)
		}
	}
	if got, want := fmt.Sprint(apis), "[authorization/v1 core/v1 discovery/v1 events/v1 networking/v1]"; got != want {
		t.Errorf("linked are %s, want %s", got, want)
	}
}
