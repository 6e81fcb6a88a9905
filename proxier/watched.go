// SPDX-License-Identifier: Apache-2.0

package proxier

import (
	"net/netip"
	"sync"

	"github.com/nftproxy/nftproxy/rules"
)

// watched is what a look needs to know of a service port with failover. Nobody changes it.
type watched struct {
	sticky   bool
	protocol rules.Protocol
	usable   []netip.AddrPort // those that do not answer included; sorted
}

// watchedPorts are the service ports with failover, as the kernel has them.
type watchedPorts struct {
	mu sync.Mutex
	of map[rules.Owner]*watched
}

// set takes what owners are now that were programmed.
func (w *watchedPorts) set(owners []rules.Owner, now func(rules.Owner) *watched) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, o := range owners {
		if now := now(o); now != nil {
			w.of[o] = now
		} else {
			delete(w.of, o)
		}
	}
}

// get returns the service port of an owner; nil: it has no failover, or there is none.
func (w *watchedPorts) get(o rules.Owner) *watched {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.of[o]
}
