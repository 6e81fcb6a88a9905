// SPDX-License-Identifier: Apache-2.0

package ask

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/explain"
	"github.com/nftproxy/nftproxy/printable"
	"github.com/nftproxy/nftproxy/proxier"
	"github.com/nftproxy/nftproxy/proxier/cluster"
	"github.com/nftproxy/nftproxy/rules"
)

// Bounds of one answer.
const (
	// mostServices is how many Services a page has at most; a page without a limit has fewer.
	mostServices, someServices = 1000, 200
	// pageEndpoints ends a page, however few Services it has.
	pageEndpoints = 20000
	// mostEndpoints is how many endpoints, of all its ports, a Service may have to be explained here.
	mostEndpoints = 5000
	// mostExplained is how many are explained at once.
	mostExplained = 2
)

// Daemon is what answers are made from.
type Daemon struct {
	Version string
	// Node is the node's name.
	Node    string
	Table   string
	Proxier *proxier.Proxier
	// Scan reads some things of the table from the kernel.
	Scan func(things []rules.Thing, to rules.Parts) error
	// Local returns the node's own addresses.
	Local func() []netip.Addr
	// InterfaceTo returns the interface that leads to an address.
	InterfaceTo func(netip.Addr) (string, error)
}

// Handler answers.
func (d *Daemon) Handler() http.Handler {
	mux := http.NewServeMux()
	namespace := networkNamespace()
	mux.HandleFunc("GET /v1/version", func(w http.ResponseWriter, _ *http.Request) {
		write(w, http.StatusOK, Version{d.Version, d.Table, printable.Word(d.Node), namespace})
	})
	mux.HandleFunc("GET /v1/services", d.services)
	mux.HandleFunc("GET /v1/services/{namespace}/{name}", d.service)
	turns := make(chan struct{}, mostExplained)
	mux.HandleFunc("GET /v1/explain", func(w http.ResponseWriter, r *http.Request) {
		select {
		case turns <- struct{}{}:
			defer func() { <-turns }()
			d.explain(w, r)
		case <-r.Context().Done():
		}
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		refuse(w, http.StatusNotFound, fmt.Errorf("there is no %s %s: see docs/api.md", r.Method, r.URL.Path))
	})
	return mux
}

// Fault is what is answered instead.
type Fault struct {
	Error string `json:"error"`
}

func refuse(w http.ResponseWriter, code int, err error) { write(w, code, Fault{printable.Error(err)}) }

func write(w http.ResponseWriter, code int, v any) {
	text, err := json.Marshal(v)
	if err != nil {
		code, text = http.StatusInternalServerError, []byte(`{"error":"the answer cannot be written"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = w.Write(append(text, '\n'))
}

// services answers with a page of all Services.
func (d *Daemon) services(w http.ResponseWriter, r *http.Request) {
	query, limit := r.URL.Query(), someServices
	if text := query.Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > mostServices {
			refuse(w, http.StatusBadRequest, fmt.Errorf("limit: %q is not a number from 1 to %d", text, mostServices))
			return
		}
		limit = n
	}
	after := cluster.ObjectName{}
	if text := query.Get("continue"); text != "" {
		var ok bool
		if after.Namespace, after.Name, ok = strings.Cut(text, "/"); !ok {
			refuse(w, http.StatusBadRequest, fmt.Errorf("continue: %q is not what an answer says", text))
			return
		}
	}
	c := d.Proxier.Looker()
	node, out, endpoints := c.Node(), Services{Services: []Service{}}, 0
	names := c.Services(query.Get("namespace"), after)
	for i, n := range names {
		look, ok := c.Look(n, false)
		if !ok { // it has just gone
			continue
		}
		out.Services = append(out.Services, serviceOf(n, &look, &node))
		for j := range look.Inputs {
			endpoints += len(look.Inputs[j].Endpoints)
		}
		if i+1 < len(names) && (len(out.Services) == limit || endpoints > pageEndpoints) {
			out.Continue = n.String()
			break
		}
	}
	write(w, http.StatusOK, out)
}

// service answers with one Service.
func (d *Daemon) service(w http.ResponseWriter, r *http.Request) {
	c, n := d.Proxier.Looker(), cluster.ObjectName{Namespace: r.PathValue("namespace"), Name: r.PathValue("name")}
	look, ok := c.Look(n, false)
	if !ok {
		refuse(w, http.StatusNotFound, d.absent(n))
		return
	}
	node := c.Node()
	write(w, http.StatusOK, serviceOf(n, &look, &node))
}

// absent says why a Service is not served.
func (d *Daemon) absent(n cluster.ObjectName) error {
	if why := d.Proxier.Looker().Unaddressed(n); why != 0 {
		return fmt.Errorf("service %s %s: there is nothing to program for it", n, why.Text())
	}
	return fmt.Errorf("there is no Service %s with a ClusterIP", n)
}

// explain answers with an explanation.
func (d *Daemon) explain(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	target, err := explain.ParseTarget(query.Get("target"))
	if err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	n := cluster.ObjectName{Namespace: target.Namespace, Name: target.Name}
	if target.Frontend.Addr.IsValid() {
		n = cluster.ServiceOf(d.Proxier.Looker().ServedBy(target.Frontend))
	}
	s, ok := d.Proxier.Service(n)
	switch {
	case !ok && target.Frontend.Addr.IsValid():
		refuse(w, http.StatusNotFound, fmt.Errorf("%s is not served", target.Text))
		return
	case !ok:
		code := http.StatusNotFound
		if d.Proxier.Looker().Unaddressed(n) != 0 {
			code = http.StatusGone
		}
		refuse(w, code, d.absent(n))
		return
	case len(s.Look.Endpoints) > mostEndpoints:
		refuse(w, http.StatusRequestEntityTooLarge, fmt.Errorf("service %s has %d endpoints, of all its ports: more than %d are not explained here", n, len(s.Look.Endpoints), mostEndpoints))
		return
	}
	world := d.world(n, &s)
	clients, err := clientsOf(world, query["from"])
	if err != nil {
		refuse(w, http.StatusUnprocessableEntity, err)
		return
	}
	e, err := world.Explain(target, clients)
	if err != nil {
		refuse(w, http.StatusUnprocessableEntity, err)
		return
	}
	write(w, http.StatusOK, e)
}

// world is what a Service is explained from.
func (d *Daemon) world(n cluster.ObjectName, s *proxier.Service) *explain.World {
	w := &explain.World{Snapshot: s.Snapshot, Alone: true, Places: map[explain.Place][]explain.Details{}, InterfaceTo: d.InterfaceTo,
		Local: d.Local(), Notes: map[string][]string{n.String(): s.Notes}}
	for i := range s.Look.Endpoints {
		e := &s.Look.Endpoints[i]
		details := explain.NewDetails(n.Namespace, e.Pod, e.Node, e.Zone)
		details.Ready, details.Serving, details.Terminating = e.Ready, e.Serving, e.Terminating
		at := explain.Place{Port: e.Port, Protocol: e.Protocol, At: e.Addr}
		w.Places[at] = append(w.Places[at], details)
	}
	for _, a := range slices.Concat(w.Node.NodePortIPs, w.Node.IPs[:]) {
		if a.IsValid() && !slices.Contains(w.Local, a) {
			w.Local = append(w.Local, a)
		}
	}
	have := parts{name: d.Table}
	switch err := d.Scan(s.Things, &have); {
	case len(s.Things) == 0 && len(s.Ports) > 0:
		w.Problem = "it has so much for the Service that 'nftproxy diff' compares it"
	case err != nil:
		w.Problem = err.Error()
	default:
		w.Have = &have.state
		w.Follow(have.state)
	}
	return w
}

// clientsOf reads which clients are meant: addresses, node, pod or outside.
func clientsOf(w *explain.World, list []string) (out []explain.Client, err error) {
	const most = 20
	if len(list) > most {
		return nil, fmt.Errorf("from: %d clients are more than %d", len(list), most)
	}
	for _, from := range list {
		var c explain.Client
		a, notAddress := netip.ParseAddr(from)
		switch {
		case notAddress == nil:
			c = w.ClientAt(a.Unmap())
		case from == "node", from == w.Node.Name:
			c = w.NodeClient()
		case from == "outside":
			c = w.OutsideClient()
		case from == "pod":
			var ok bool
			if c, ok = w.PodClient(); !ok {
				return nil, errors.New("nothing tells where pods are: give --cluster-cidr or another --detect-local-mode to 'nftproxy run'")
			}
		default:
			return nil, fmt.Errorf("from: %q is neither an address, node, pod nor outside", from)
		}
		out = append(out, c)
	}
	return out, nil
}
