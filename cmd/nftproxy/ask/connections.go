// SPDX-License-Identifier: Apache-2.0

package ask

import (
	"cmp"
	"context"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/nftproxy/nftproxy/conntrack"
	"github.com/nftproxy/nftproxy/proxier"
	"github.com/nftproxy/nftproxy/proxier/cluster"
	"github.com/nftproxy/nftproxy/rules"
)

// Connections is the answer to /v1/connections.
type Connections struct {
	Connections []Connection `json:"connections"`
	// At is when they were counted.
	At time.Time `json:"at"`
	// Uncounted is how many connections are not among them, as there are too many kinds of them.
	Uncounted int    `json:"uncounted,omitempty"`
	Continue  string `json:"continue,omitempty"`
}

// Connection is how many connections are open from a frontend to an endpoint.
type Connection struct {
	Owner
	Frontend string `json:"frontend"`
	Endpoint string `json:"endpoint"`
	Open     int    `json:"open"`
	// Bytes went in both directions; 0: the kernel does not count them.
	Bytes uint64 `json:"bytes,omitempty"`
	// Used says that the endpoint gets new connections from this node.
	Used bool `json:"used"`
}

// key sorts connections, and says where a page ends.
func (c *Connection) key() string {
	return strings.Join([]string{c.Namespace, c.Name, c.Port, c.Family, c.Frontend, c.Endpoint}, " ")
}

// Bounds of what is counted of connections.
const (
	mostWays = 50000       // from a frontend to an endpoint
	freshFor = time.Second // for so long nobody counts again, and longer where counting takes long
	keptFor  = time.Minute // memory is given back
)

// way is from a frontend to an endpoint.
type way struct {
	to       rules.Frontend
	endpoint netip.AddrPort
}

// counted is what was counted of a way.
type counted struct {
	Connection
	of rules.Owner
}

// connections answers with the open connections to Services.
func (c *costly) connections(r *http.Request) (any, error) {
	query := r.URL.Query()
	limit, err := limitOf(query)
	if err != nil {
		return nil, err
	}
	selected, err := c.d.selected(query)
	if err != nil {
		return nil, err
	}
	out, err := c.flows.get(r.Context(), c.walked, func() (Connections, time.Time, error) { return c.count(r.Context()) })
	if err != nil {
		return nil, err
	}
	namespace, name, after := query.Get("namespace"), query.Get("name"), query.Get("continue")
	list := out.Connections
	out.Connections = []Connection{}
	for i := range list {
		switch l := &list[i]; {
		case namespace != "" && l.Namespace != namespace, name != "" && l.Name != name, after != "" && l.key() <= after,
			!selected(cluster.ObjectName{Namespace: l.Namespace, Name: l.Name}):
		case len(out.Connections) == limit:
			out.Continue = out.Connections[limit-1].key()
			return out, nil
		default:
			out.Connections = append(out.Connections, *l)
		}
	}
	return out, nil
}

// count counts all connections, and says for how long that is good.
func (c *costly) count(ctx context.Context) (out Connections, until time.Time, err error) {
	began := time.Now()
	ways, uncounted, err := c.walk(ctx)
	if err != nil {
		return out, until, err
	}
	out = Connections{Connections: c.d.named(ways), At: began.UTC(), Uncounted: uncounted}
	until = time.Now().Add(max(freshFor, time.Duration(c.walked.times)*time.Since(began)))
	time.AfterFunc(keptFor, func() { c.flows.forget(until) })
	return out, until, nil
}

// walk counts the connections of each way from a Service's frontend, and those that are not counted.
func (c *costly) walk(ctx context.Context) (ways map[way]*counted, uncounted int, err error) {
	ways = map[way]*counted{}
	owners := map[rules.Frontend]rules.Owner{}
	look := c.d.Proxier.Looker()
	err = c.d.Flows(ctx, func(flow conntrack.Flow) {
		w := way{rules.FrontendAt(flow.Orig.Dst, flow.Protocol), flow.Reply.Src}
		n := ways[w]
		if n == nil {
			o, known := owners[w.to]
			if !known {
				o = look.ServedBy(w.to)
				if len(owners) < mostWays {
					owners[w.to] = o
				}
			}
			switch {
			case o.Name == "": // no Service's
				return
			case len(ways) == mostWays:
				uncounted++
				return
			}
			n = &counted{Connection{Owner: ownerOf(o), Frontend: w.to.String(), Endpoint: w.endpoint.String()}, o}
			ways[w] = n
		}
		n.Open++
		n.Bytes += flow.Bytes
	})
	return ways, uncounted, err
}

// named sorts connections, and says which endpoints are used.
func (d *Daemon) named(ways map[way]*counted) []Connection {
	used := d.usedEndpoints()
	out := make([]Connection, 0, len(ways))
	for w, c := range ways {
		c.Used = used(c.of, w.endpoint)
		out = append(out, c.Connection)
	}
	slices.SortFunc(out, func(a, b Connection) int { return cmp.Compare(a.key(), b.key()) })
	return out
}

// usedEndpoints returns what says whether an endpoint of a service port gets new connections from this node.
func (d *Daemon) usedEndpoints() func(rules.Owner, netip.AddrPort) bool {
	node := d.Proxier.Looker().Node()
	used := map[rules.Owner]map[netip.AddrPort]bool{}
	return func(o rules.Owner, at netip.AddrPort) bool {
		if used[o] == nil {
			used[o] = map[netip.AddrPort]bool{}
			for _, e := range proxier.Inspect(d.Proxier).Used(o, &node) {
				used[o][e] = true
			}
		}
		return used[o][at]
	}
}
