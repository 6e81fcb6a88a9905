// SPDX-License-Identifier: Apache-2.0

package ask

import (
	"net/http"
	"slices"
	"time"
)

// Counts is the answer to /v1/counts.
type Counts struct {
	// Counted says that the kernel counts (--service-metrics).
	Counted bool `json:"counted"`
	// At is when they were read.
	At time.Time `json:"at"`
	// Counts are those of service ports with new connections since nftproxy's start.
	Counts []Count `json:"counts"`
}

// Count is how many new connections came to a service port since nftproxy counts them.
type Count struct {
	Owner
	New uint64 `json:"newConnections"`
}

// connectionCounts answers with how many new connections came to service ports of a namespace, of all without one.
func (c *costly) connectionCounts(r *http.Request) (any, error) {
	if c.d.Counts == nil {
		return Counts{Counts: []Count{}, At: time.Now().UTC()}, nil
	}
	all, err := c.counts.get(r.Context(), c.listed, func() (all Counts, until time.Time, err error) {
		began := time.Now()
		counted, err := c.d.Counts()
		if err != nil {
			return all, until, err
		}
		all = Counts{Counted: true, At: began.UTC(), Counts: []Count{}}
		for o, n := range counted {
			if n > 0 {
				all.Counts = append(all.Counts, Count{ownerOf(o), n})
			}
		}
		const half = 2
		return all, began.Add(freshFor / half), nil
	})
	if err != nil {
		return nil, err
	}
	namespace := r.URL.Query().Get("namespace")
	all.Counts = slices.DeleteFunc(slices.Clone(all.Counts), func(n Count) bool { return namespace != "" && n.Namespace != namespace })
	return all, nil
}
