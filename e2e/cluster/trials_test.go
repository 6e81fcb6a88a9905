// SPDX-License-Identifier: Apache-2.0

//go:build linux

package cluster

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// trials has a node's kernel note the connections that begin to go to some endpoints, however long these or the machine take.
type trials struct {
	s    *site
	node *Node
	to   []netip.AddrPort
}

// noteTrials begins to note.
func (s *site) noteTrials(node *Node, to []netip.AddrPort) *trials {
	s.t.Helper()
	t := &trials{s, node, to}
	var list []string
	for _, a := range to {
		list = append(list, a.Addr().String()+" . "+fmt.Sprint(a.Port()))
	}
	t.nft(`table ip trials {
		set seen { type ipv4_addr . inet_service . ipv4_addr; size 65535; flags dynamic; }
		chain out { type filter hook postrouting priority 300
			ip daddr . tcp dport { ` + strings.Join(list, ", ") + ` } tcp flags & (syn | ack) == syn add @seen { ip saddr . tcp sport . ip daddr }
		}
	}`)
	return t
}

// since waits until failover has ejected all the endpoints, which it must say in its log, and forgets those noted until then.
func (t *trials) since(p *failoverPeer) {
	t.s.t.Helper()
	must(t.s.t, Poll(t.s.t.Context(), stepTimeout, func(context.Context) error {
		if n := strings.Count(p.process.Log(), "An endpoint does not answer from this node"); n < len(t.to) {
			return fmt.Errorf("%s: %d endpoints are ejected, want %d", p.Title, n, len(t.to))
		}
		return nil
	}))
	// The log comes after the commit. Those whose first packet is on its way by now are over in an instant.
	<-time.After(100 * time.Millisecond)
	t.nft("flush set ip trials seen")
}

// count returns how many connections were noted.
func (t *trials) count() int {
	t.s.t.Helper()
	return strings.Count(t.nft("list set ip trials seen"), " . ")/2 - 1 // without the line of the set's type
}

func (t *trials) nft(script string) string {
	t.s.t.Helper()
	return t.s.nft(t.node, script)
}
