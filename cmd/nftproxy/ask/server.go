// SPDX-License-Identifier: Apache-2.0

package ask

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/explain"
	"github.com/nftproxy/nftproxy/conntrack"
	"github.com/nftproxy/nftproxy/printable"
	"github.com/nftproxy/nftproxy/proxier"
	"github.com/nftproxy/nftproxy/proxier/cluster"
	"github.com/nftproxy/nftproxy/rules"
)

// Bounds of one answer.
const (
	// mostListed is how many a page has at most; a page without a limit has fewer.
	mostListed, someListed = 1000, 200
	// pageEndpoints and pageFrontends end a page, however few Services it has.
	pageEndpoints, pageFrontends = 20000, 10000
	// mostEndpoints is how many endpoints, of all its ports, a Service may have to be explained here.
	mostEndpoints = 5000
	// mostLines is how many lines an explanation may have: an endpoint for each client of each frontend.
	mostLines = 100000
	// mostAtOnce is how many answers are made at once.
	mostAtOnce = 2
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
	// Healthy is what /healthz says; nil: nobody asks.
	Healthy func() bool
	// Flows calls fn for each open connection whose destination was translated.
	Flows func(ctx context.Context, fn func(conntrack.Flow)) error
	// Clients calls fn for each client that session affinity remembers, of wanted service ports.
	Clients func(wanted func(rules.ServicePortName) bool, fn func(StickyEntry)) error
	// Counts returns how many new connections came to service ports; nil: the kernel does not count them.
	Counts func() (map[rules.Owner]uint64, error)
}

// Handler answers.
func (d *Daemon) Handler() http.Handler {
	mux := http.NewServeMux()
	namespace, turns := networkNamespace(), make(chan struct{}, mostAtOnce)
	for path, of := range map[string]func(*http.Request) (any, error){
		"/v1/version": func(*http.Request) (any, error) {
			return Version{d.Version, d.Table, printable.Word(d.Node), namespace}, nil
		},
		"/v1/services":                    d.services,
		"/v1/services/{namespace}/{name}": d.service,
		"/v1/endpoints":                   d.endpoints,
		"/v1/conflicts":                   d.conflicts,
		"/v1/refused":                     d.refused,
		"/v1/transactions":                d.transactions,
		"/v1/drift":                       d.drift,
		"/v1/explain":                     d.explain,
		"/v1/rules/{namespace}/{name}":    d.rules,
		"/v1/node":                        d.node,
	} {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) {
			select {
			case turns <- struct{}{}:
			case <-r.Context().Done():
				return
			}
			code, text := text(of(r))

			<-turns // before it is written: whoever reads slowly keeps nobody from an answer
			write(w, code, text)
		})
	}
	mux.Handle("GET /v1/watch", newWatches(d))
	for path, of := range newCostly(d).paths() {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) {
			code, text := text(of(r))
			write(w, code, text)
		})
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		code, text := text(nil, refuse(http.StatusNotFound, "there is no %s %s: see docs/api.md", r.Method, r.URL.Path))
		write(w, code, text)
	})
	return mux
}

// Fault is what is answered instead.
type Fault struct {
	Error string `json:"error"`
}

// refuse returns the error that is answered with a status.
func refuse(status int, format string, args ...any) error {
	return &Refused{status, fmt.Sprintf(format, args...)}
}

// text returns the status and the text of an answer, or of the error that is answered instead.
func text(v any, err error) (int, []byte) {
	code := http.StatusOK
	if err != nil {
		code, v = http.StatusUnprocessableEntity, Fault{printable.Error(err)}
		var refused *Refused
		if errors.As(err, &refused) {
			code = refused.Status
		}
	}
	text, err := json.Marshal(v)
	if err != nil {
		return http.StatusInternalServerError, []byte(`{"error":"the answer cannot be written"}`)
	}
	return code, text
}

func write(w http.ResponseWriter, code int, text []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = w.Write(append(text, '\n')) //nolint:gosec // JSON, and said to be that; no browser reaches the socket
}

// service answers with one Service.
func (d *Daemon) service(r *http.Request) (any, error) {
	c, n := d.Proxier.Looker(), cluster.ObjectName{Namespace: r.PathValue("namespace"), Name: r.PathValue("name")}
	look, ok := c.Look(n, false)
	if !ok {
		return nil, refuse(http.StatusNotFound, "%s", d.absent(n))
	}
	return d.view().service(n, &look), nil
}

// absent says why a Service is not served.
func (d *Daemon) absent(n cluster.ObjectName) error {
	if why := d.Proxier.Looker().Unaddressed(n); why != 0 {
		return fmt.Errorf("service %s %s: there is nothing to program for it", n, why.Text())
	}
	const most = 5
	var others []string
	for _, other := range d.Proxier.Looker().Namesakes(n.Name, most) {
		others = append(others, printable.Word(other.Namespace)+"/"+printable.Word(other.Name))
	}
	if len(others) > 0 {
		return fmt.Errorf("there is no Service %s with a ClusterIP: there is %s", n, strings.Join(others, ", "))
	}
	return fmt.Errorf("there is no Service %s with a ClusterIP", n)
}

// explain answers with an explanation.
func (d *Daemon) explain(r *http.Request) (any, error) {
	query := r.URL.Query()
	target, err := explain.ParseTarget(query.Get("target"), "")
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "%s", err)
	}
	n := cluster.ObjectName{Namespace: target.Namespace, Name: target.Name}
	if a := target.Frontend.Addr; a.IsValid() && target.Frontend.Port == 0 {
		n, _ = d.Proxier.Looker().At(a)
	} else if a.IsValid() {
		n = cluster.ServiceOf(d.Proxier.Looker().ServedBy(target.Frontend))
	}
	s, ok := d.Proxier.Service(n)
	switch {
	case !ok && target.Frontend.Addr.IsValid():
		return nil, refuse(http.StatusNotFound, "%s is not served", target.Text)
	case !ok && d.Proxier.Looker().Unaddressed(n) != 0:
		return nil, refuse(http.StatusGone, "%s", d.absent(n))
	case !ok:
		return nil, refuse(http.StatusNotFound, "%s", d.absent(n))
	case len(s.Look.Endpoints) > mostEndpoints:
		return nil, refuse(http.StatusRequestEntityTooLarge, "service %s has %d endpoints, of all its ports: more than %d are not explained here", n, len(s.Look.Endpoints), mostEndpoints)
	}
	world := d.world(n, &s)
	clients, err := clientsOf(world, query["from"])
	if err != nil {
		return nil, err
	}
	if lines := explain.Lines(world, target, clients); lines > mostLines {
		return nil, refuse(http.StatusRequestEntityTooLarge, "service %s has so many frontends and endpoints that it would take %d lines: more than %d are not explained here", n, lines, mostLines)
	}
	e, err := world.Explain(target, clients)
	if err == nil {
		e.History = historyOf(n, proxier.NewFeed(d.Proxier).News(0, mostListed, 0).Records, time.Now())
	}
	return e, err
}

// world is what a Service is explained from.
func (d *Daemon) world(n cluster.ObjectName, s *proxier.Service) *explain.World {
	w := &explain.World{Snapshot: s.Snapshot, Alone: true, Places: places(n, s), InterfaceTo: d.InterfaceTo, Local: d.Local(),
		Notes: map[string][]string{n.String(): s.Notes}}
	for _, a := range slices.Concat(w.Node.NodePortIPs, w.Node.IPs[:]) {
		if a.IsValid() && !slices.Contains(w.Local, a) {
			w.Local = append(w.Local, a)
		}
	}
	const most = 100
	w.Slices = map[string][]cluster.SliceLook{n.String(): d.Proxier.Looker().Slices(n, most)}
	have, err := parts{name: d.Table}, error(nil)
	if len(s.Things) > 0 { // none would be everything
		err = d.Scan(s.Things, &have)
	}
	switch {
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

// places returns what is known of a Service's endpoints besides their addresses.
func places(n cluster.ObjectName, s *proxier.Service) map[explain.Place][]explain.Details {
	out := map[explain.Place][]explain.Details{}
	for i := range s.Look.Endpoints {
		e := &s.Look.Endpoints[i]
		details := explain.NewDetails(n.Namespace, e.Pod, e.Node, e.Zone)
		details.Ready, details.Serving, details.Terminating = e.Ready, e.Serving, e.Terminating
		at := explain.Place{Port: e.Port, Protocol: e.Protocol, At: e.Addr}
		out[at] = append(out[at], details)
	}
	return out
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
