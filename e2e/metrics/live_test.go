// SPDX-License-Identifier: Apache-2.0

//go:build linux

package metrics

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/netns/netnstest"
	"github.com/nftproxy/nftproxy/e2e/proxy"
	"github.com/nftproxy/nftproxy/e2e/traffic"
)

// patience is how long anything may take that is waited for.
const patience = 20 * time.Second

// lists is what the API server answers. The slice's annotation makes an observation of
// network_programming_duration; the Services have session affinity and ask for one
// external address twice.
var lists = map[string]string{
	"/api/v1/services": `{"kind":"ServiceList","apiVersion":"v1","metadata":{"resourceVersion":"1"},"items":[
		{"metadata":{"namespace":"shop","name":"web","uid":"1","creationTimestamp":"2024-01-01T00:00:00Z"},
		 "spec":{"type":"ClusterIP","clusterIP":"10.96.0.10","clusterIPs":["10.96.0.10"],"externalIPs":["10.9.9.9"],"sessionAffinity":"ClientIP",
		 "sessionAffinityConfig":{"clientIP":{"timeoutSeconds":60}},"ports":[{"name":"http","protocol":"TCP","port":80}]}},
		{"metadata":{"namespace":"shop","name":"late","uid":"2","creationTimestamp":"2024-01-02T00:00:00Z"},
		 "spec":{"type":"ClusterIP","clusterIP":"10.96.0.11","clusterIPs":["10.96.0.11"],"externalIPs":["10.9.9.9"],"ports":[{"protocol":"TCP","port":80}]}}]}`,
	"/apis/discovery.k8s.io/v1/endpointslices": `{"kind":"EndpointSliceList","apiVersion":"discovery.k8s.io/v1","metadata":{"resourceVersion":"1"},"items":[
		{"metadata":{"namespace":"shop","name":"web-1","uid":"3","labels":{"kubernetes.io/service-name":"web"},
		 "annotations":{"endpoints.kubernetes.io/last-change-trigger-time":"NOW"}},"addressType":"IPv4",
		 "ports":[{"name":"http","protocol":"TCP","port":8080}],"endpoints":[{"addresses":["POD"],"conditions":{"ready":true}}]}]}`,
	"/api/v1/nodes": `{"kind":"NodeList","apiVersion":"v1","metadata":{"resourceVersion":"1"},"items":[
		{"metadata":{"name":"node"},"status":{"addresses":[{"type":"InternalIP","address":"172.18.0.2"}]}}]}`,
	"/apis/networking.k8s.io/v1/servicecidrs": `{"kind":"ServiceCIDRList","apiVersion":"networking.k8s.io/v1","metadata":{"resourceVersion":"1"},"items":[]}`,
}

// apiServer answers lists, and holds watches open without an event.
type apiServer struct{ pod netip.Addr }

func (a apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	list, ok := lists[r.URL.Path]
	switch {
	case !ok:
		http.NotFound(w, r)
	case r.URL.Query().Get("sendInitialEvents") != "": // lists by watching came with newer servers
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusUnprocessableEntity)
		_, _ = io.WriteString(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Invalid","code":422}`)
	case r.URL.Query().Get("watch") != "":
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusOK)
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	default:
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, strings.NewReplacer("POD", a.pod.String(), "NOW", time.Now().Format(time.RFC3339Nano)).Replace(list))
	}
}

// scrape runs nftproxy on a node with a Service that has connections, and returns what
// it exposes.
func scrape(t *testing.T) map[string]*dto.MetricFamily {
	t.Helper()
	c := netnstest.NewCluster(t, netns.Config{})
	backend, err := traffic.Serve(c.Local[0].NS, traffic.Endpoints([]netip.Addr{c.Local[0].V4}, []uint16{8080}, traffic.TCP)...)
	must(t, err)
	t.Cleanup(func() { must(t, backend.Close()) })
	api := startAPI(t, c)
	p, err := proxy.Start(proxy.Config{NS: c.Node.NS, Env: []string{runEnv + "=1"}, Args: []string{"run", "--service-metrics", "--master", "http://" + api,
		"--hostname-override", "node", "--cluster-cidr", netns.ClusterCIDR4, "--metrics-bind-address", "127.0.0.1:10249"}})
	must(t, err)
	t.Cleanup(p.Kill)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	must(t, p.WaitSynced(ctx))
	client := traffic.Client{NS: c.Client.NS}
	must(t, client.Connect(ctx, traffic.TCP, netip.MustParseAddrPort("10.96.0.10:80")).Err)
	get(t, c.Node, "127.0.0.1:10256", "/healthz")
	get(t, c.Node, "127.0.0.1:10256", "/livez")
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(get(t, c.Node, "127.0.0.1:10249", "/metrics")))
	must(t, err)
	if t.Failed() || len(families) == 0 {
		t.Fatalf("no metrics; the log:\n%s", p.Log())
	}
	return families
}

// startAPI serves the API on the node's loopback address and returns where.
func startAPI(t *testing.T, c *netns.Cluster) string {
	t.Helper()
	var l net.Listener
	must(t, c.Node.Do(func() (err error) {
		l, err = net.Listen("tcp", "127.0.0.1:0")
		return err
	}))
	server := &http.Server{Handler: apiServer{c.Local[0].V4}, ReadHeaderTimeout: patience}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
	return l.Addr().String()
}

// get returns the body of a page, asked for from a host.
func get(t *testing.T, from netns.Host, address, path string) string {
	t.Helper()
	client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(context.Context, string, string) (conn net.Conn, err error) {
			err = from.Do(func() error {
				conn, err = net.DialTimeout("tcp", address, patience)
				return err
			})
			return conn, err
		}}}
	answer, err := client.Get(fmt.Sprintf("http://%s%s", address, path))
	must(t, err)
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	must(t, err)
	return string(body)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
