// SPDX-License-Identifier: Apache-2.0

package ask

import (
	"net/http"
	"slices"
	"sync"
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

// counts are the counters as they were read last.
type counts struct {
	mu    sync.Mutex
	last  Counts
	until time.Time
}

// connectionCounts answers with how many new connections came to service ports of a namespace, of all without one.
func (c *costly) connectionCounts(r *http.Request) (any, error) {
	if c.d.Counts == nil {
		return Counts{Counts: []Count{}, At: time.Now().UTC()}, nil
	}
	f := c.counts
	get := func() (Counts, bool) {
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.last, time.Now().Before(f.until)
	}
	all, fresh := get()
	if !fresh {
		if err := c.listed.do(r.Context(), func() error {
			if all, fresh = get(); fresh {
				return nil
			}
			began := time.Now()
			counted, err := c.d.Counts()
			if err != nil {
				return err
			}
			all = Counts{Counted: true, At: began.UTC(), Counts: []Count{}}
			for o, n := range counted {
				if n > 0 {
					all.Counts = append(all.Counts, Count{ownerOf(o), n})
				}
			}
			f.mu.Lock()
			const half = 2
			f.last, f.until = all, began.Add(freshFor/half)
			f.mu.Unlock()
			return nil
		}); err != nil {
			return nil, err
		}
	}
	namespace := r.URL.Query().Get("namespace")
	all.Counts = slices.DeleteFunc(slices.Clone(all.Counts), func(n Count) bool { return namespace != "" && n.Namespace != namespace })
	return all, nil
}
