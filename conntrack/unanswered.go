// SPDX-License-Identifier: Apache-2.0

//go:build linux

package conntrack

import (
	"context"
	"errors"
	"slices"

	"github.com/nftproxy/nftproxy/rules"
)

// DeleteUnanswered deletes the flows that were sent on to some backends and never answered, and returns how many. After an error it still deletes what
// it knows of, unless ctx is done.
func (c *Conn) DeleteUnanswered(ctx context.Context, backends []rules.Backend) (int, error) {
	u, err := c.Usage(ctx)
	large := err != nil || unfiltered(1, u.Entries)
	var queries []query
	to := make(map[rules.Backend]struct{}, len(backends))
	for _, b := range backends {
		to[b] = struct{}{}
		q := query{family: familyOf(b.Addr.Addr()), proto: b.Protocol, unanswered: true}
		if large {
			q = query{}
		}
		if !slices.Contains(queries, q) {
			queries = append(queries, q)
		}
	}
	var found []Flow
	errs := []error{err}
	for _, q := range queries {
		errs = append(errs, c.dump(ctx, q, func(f Flow) {
			if _, ok := to[rules.Backend{Protocol: f.Protocol, Addr: f.Reply.Src}]; ok && f.Unanswered() {
				found = append(found, f)
			}
		}))
	}
	n, err := c.Delete(ctx, found)
	return n, errors.Join(append(errs, err)...)
}
