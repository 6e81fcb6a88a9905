// SPDX-License-Identifier: Apache-2.0

package ask

import (
	"cmp"
	"net/http"
	"net/netip"
	"slices"

	"github.com/nftproxy/nftproxy/proxier/cluster"
	"github.com/nftproxy/nftproxy/rules"
)

// Affinity is the answer to /v1/affinity.
type Affinity struct {
	Clients []StickyClient `json:"clients"`
	// More is how many there are besides.
	More int `json:"more,omitempty"`
}

// StickyClient is a client that stays with an endpoint.
type StickyClient struct {
	Owner
	Client   string `json:"client"`
	Endpoint string `json:"endpoint"`
	// Policy is the traffic policy of the connections that it stays for, Cluster or Local.
	Policy string `json:"trafficPolicy"`
	// Seconds is for how long.
	Seconds uint64 `json:"seconds"`
	// Gone says that the endpoint gets no new connections any more: the client gets another one with its next connection.
	Gone bool `json:"endpointGone,omitempty"`
}

// affinity answers with the clients that session affinity remembers.
func (c *costly) affinity(r *http.Request) (any, error) {
	query := r.URL.Query()
	limit, err := limitOf(query)
	if err != nil {
		return nil, err
	}
	namespace, name := query.Get("namespace"), query.Get("name")
	selected, err := c.d.selected(query)
	if err != nil {
		return nil, err
	}
	out := Affinity{Clients: []StickyClient{}}
	used := c.d.usedEndpoints()
	err = c.listed.do(r.Context(), func() error {
		return c.d.Clients(func(n rules.ServicePortName) bool {
			return (namespace == "" || n.Namespace == namespace) && (name == "" || n.Name == name) &&
				selected(cluster.ObjectName{Namespace: n.Namespace, Name: n.Name})
		}, func(e StickyEntry) {
			if len(out.Clients) == limit {
				out.More++
				return
			}
			out.Clients = append(out.Clients, StickyClient{ownerOf(e.Of), e.Client.String(), e.To.String(), policy(e.Local), e.Milliseconds / 1000, !used(e.Of, e.To)})
		})
	})
	slices.SortFunc(out.Clients, func(a, b StickyClient) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Port, b.Port),
			netip.MustParseAddr(a.Client).Compare(netip.MustParseAddr(b.Client)), cmp.Compare(a.Policy, b.Policy))
	})
	return out, err
}

// StickyEntry is a client that the kernel remembers.
type StickyEntry struct {
	Of           rules.Owner
	Local        bool
	Client       netip.Addr
	To           netip.AddrPort
	Milliseconds uint64
}
