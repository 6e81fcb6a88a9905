// SPDX-License-Identifier: Apache-2.0

package ask

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/explain"
	"github.com/nftproxy/nftproxy/printable"
	"github.com/nftproxy/nftproxy/proxier"
	"github.com/nftproxy/nftproxy/proxier/cluster"
	"github.com/nftproxy/nftproxy/rules"
)

// limitOf reads how many a page may have.
func limitOf(query url.Values) (int, error) {
	text := query.Get("limit")
	if text == "" {
		return someListed, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > mostListed {
		return 0, refuse(http.StatusBadRequest, "limit: %q is not a number from 1 to %d", text, mostListed)
	}
	return n, nil
}

// eachService calls add for the Services that a request asks for until add says that the page is full, and returns with what to
// continue; nothing: there are no more.
func (d *Daemon) eachService(r *http.Request, add func(n cluster.ObjectName, limit int) (full bool)) (next string, err error) {
	query := r.URL.Query()
	limit, err := limitOf(query)
	if err != nil {
		return "", err
	}
	after := cluster.ObjectName{}
	if text := query.Get("continue"); text != "" {
		var ok bool
		if after.Namespace, after.Name, ok = strings.Cut(text, "/"); !ok {
			return "", refuse(http.StatusBadRequest, "continue: %q is not what an answer says", text)
		}
	}
	selected, err := d.selected(query)
	if err != nil {
		return "", err
	}
	names := d.Proxier.Looker().Services(query.Get("namespace"), after)
	for i, n := range names {
		if selected(n) && add(n, limit) && i+1 < len(names) {
			return n.String(), nil
		}
	}
	return "", nil
}

// services answers with a page of all Services.
func (d *Daemon) services(r *http.Request) (any, error) {
	c, view, out, endpoints, frontends := d.Proxier.Looker(), d.view(), Services{Services: []Service{}}, 0, 0
	var err error
	out.Continue, err = d.eachService(r, func(n cluster.ObjectName, limit int) bool {
		look, ok := c.Look(n, false)
		if !ok { // it has just gone
			return false
		}
		s := view.service(n, &look)
		out.Services = append(out.Services, s)
		for i := range look.Inputs {
			endpoints += len(look.Inputs[i].Endpoints)
			frontends += 1 + len(s.Ports[i].Frontends)
		}
		return len(out.Services) == limit || endpoints > pageEndpoints || frontends > pageFrontends
	})
	return out, err
}

// endpoints answers with the endpoints of some Services: those of one if a name is given, too.
func (d *Daemon) endpoints(r *http.Request) (any, error) {
	out, services := Endpoints{Endpoints: []Endpoint{}}, 0
	add := func(n cluster.ObjectName, limit int) bool {
		s, ok := d.Proxier.Ports(n)
		if !ok {
			return false
		}
		world := &explain.World{Snapshot: s.Snapshot, Places: places(n, &s)}
		for i := range s.Ports {
			p := &s.Ports[i]
			for _, e := range explain.EndpointsOf(world, p) {
				out.Endpoints = append(out.Endpoints, Endpoint{printable.Word(n.Namespace), printable.Word(n.Name), explain.IdentityOf(p), e})
			}
		}
		services++
		return services == limit || len(out.Endpoints) > pageEndpoints
	}
	query := r.URL.Query()
	if name := query.Get("name"); name != "" {
		n := cluster.ObjectName{Namespace: query.Get("namespace"), Name: name}
		if add(n, 0); services == 0 {
			return nil, refuse(http.StatusNotFound, "%s", d.absent(n))
		}
		return out, nil
	}
	var err error
	out.Continue, err = d.eachService(r, add)
	return out, err
}

// conflicts answers with the frontends that service ports do without.
func (d *Daemon) conflicts(r *http.Request) (any, error) {
	out := Conflicts{Conflicts: []Conflict{}}
	var err error
	out.Continue, err = d.eachService(r, func(n cluster.ObjectName, limit int) bool {
		for _, c := range d.Proxier.Conflicts(n.Namespace, n.Name) {
			out.Conflicts = append(out.Conflicts, Conflict{ownerOf(c.Owner), c.Frontend, holderOf(c.Holder), c.Why.Text, c.Why.Code.String()})
		}
		return len(out.Conflicts) >= limit
	})
	return out, err
}

// holderOf names a service port; nothing: there is none.
func holderOf(n rules.ServicePortName) string {
	if n.Name == "" {
		return ""
	}
	return printable.Word(n.String())
}

// refused answers with the service ports that the kernel refuses.
func (d *Daemon) refused(r *http.Request) (any, error) {
	limit, err := limitOf(r.URL.Query())
	if err != nil {
		return nil, err
	}
	selected, err := d.selected(r.URL.Query())
	if err != nil {
		return nil, err
	}
	namespace, out := r.URL.Query().Get("namespace"), RefusedPorts{Refused: []RefusedPort{}}
	for _, p := range d.Proxier.Refused() {
		switch {
		case namespace != "" && p.Owner.Namespace != namespace, !selected(cluster.ServiceOf(p.Owner)):
		case len(out.Refused) == limit:
			out.More++
		default:
			out.Refused = append(out.Refused, RefusedPort{ownerOf(p.Owner), p.Why, p.Since.UTC(), p.NextTry.UTC()})
		}
	}
	return out, nil
}

// transactions answers with what was done to the tables.
func (d *Daemon) transactions(r *http.Request) (any, error) {
	query := r.URL.Query()
	limit, err := limitOf(query)
	if err != nil {
		return nil, err
	}
	var after uint64
	if text := query.Get("continue"); text != "" {
		if after, err = strconv.ParseUint(text, 10, 64); err != nil {
			return nil, refuse(http.StatusBadRequest, "continue: %q is not what an answer says", text)
		}
	}
	out := Transactions{Transactions: []Transaction{}}
	list := d.Proxier.Records(after, limit+1)
	for i := range list[:min(limit, len(list))] {
		out.Transactions = append(out.Transactions, transactionOf(&list[i]))
	}
	if len(list) > limit {
		out.Continue = strconv.FormatUint(list[limit-1].Number, 10)
	}
	return out, nil
}

func transactionOf(r *proxier.Record) Transaction {
	out := Transaction{Number: r.Number, Times: Times{r.At.UTC(), milliseconds(r.Took), milliseconds(r.Delay), milliseconds(r.Waited)}, Why: r.Why, By: r.By,
		CauseCount: r.Causes.Count, ServicePorts: r.ServicePorts, Operations: r.Operations, Repairs: r.Repairs, Refused: r.Refused}
	for i := range r.Ports {
		p := &r.Ports[i]
		out.Ports = append(out.Ports, Written{ownerOf(p.Owner), p.Backends, printed(p.Came), p.CameCount, printed(p.Went), p.WentCount,
			printed(p.Begun), p.BegunCount, printed(p.Ended), p.EndedCount})
	}
	for _, c := range r.Causes.List {
		name := printable.Word(c.Name)
		if c.Namespace != "" {
			name = printable.Word(c.Namespace) + "/" + name
		}
		out.Causes = append(out.Causes, Cause{c.Kind, name, c.What, c.At.UTC()})
	}
	return out
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
