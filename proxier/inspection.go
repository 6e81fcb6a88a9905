// SPDX-License-Identifier: Apache-2.0

package proxier

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/nftproxy/nftproxy/rules"
)

// ErrNotProgrammed says that the kernel is not programmed yet, so that there is nothing to compare it with.
var ErrNotProgrammed = errors.New("not all that was listed is programmed yet")

// confirmations is how often what differs is looked at again: changes that are programmed while the kernel is read look like
// differences.
const confirmations = 3

// Inspection tells more of what a Proxier has done, and whether it holds. Its methods may be called at any time, but for Remember.
type Inspection struct{ p *Proxier }

// Inspect returns the Inspection of a Proxier.
func Inspect(p *Proxier) Inspection { return Inspection{p} }

// Used returns the endpoints of a service port that get new connections from this node.
func (l Inspection) Used(o rules.Owner, node *rules.Node) (out []netip.AddrPort) {
	in := l.p.Looker().Input(o)
	port := l.p.port(&in)
	for _, e := range rules.ExplainEndpoints(&port.ServicePort, port.Endpoints, node) {
		if e.Cluster || e.Local {
			out = append(out, e.Addr)
		}
	}
	return out
}

// Remember says how many Records there are at most; by default 1,000. It is called before Run.
func (l Inspection) Remember(records uint64) { l.p.syncer.follow.history.most = max(1, records) }

// Repairs returns the last records of repairs, the oldest first, so many at most.
func (l Inspection) Repairs(most int) []Record { return l.p.syncer.follow.history.repairs(most) }

// Drift says whether the kernel holds what it should, as far as that is known.
func (l Inspection) Drift() Drift {
	h := l.p.syncer.follow.history
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.drift
}

// Differences compares everything in the kernel with what it should hold, and says how many service ports that is about. scan
// reads from the kernel. Programming is held up for a copy of a map with all owners, however long the reading takes. It is
// for while Run lasts.
func (l Inspection) Differences(ctx context.Context, most int, scan func([]rules.Thing, rules.Parts) error) (found rules.Found, servicePorts int, err error) {
	var things []rules.Thing
	for range 1 + confirmations {
		desired, failed := l.desired(ctx)
		if failed != nil {
			return rules.Found{}, 0, failed
		}
		servicePorts = desired.Owners()
		c := desired.Tell(things)
		if failed := scan(things, c); failed != nil {
			return rules.Found{}, 0, fmt.Errorf("read the kernel's tables: %w", failed)
		}
		if c.Whole() {
			things = nil
			continue
		}
		if found = c.Differences(most); len(found.List) == 0 {
			break
		}
		tx := c.Tx()
		things = tx.Things()
	}
	return found, servicePorts, ctx.Err()
}

// desired returns a copy of what the kernel should hold.
func (l Inspection) desired(ctx context.Context) (*rules.Desired, error) {
	out := make(chan *rules.Desired, 1)
	look := func() {
		if !l.p.syncer.program.adopted {
			close(out)
			return
		}
		out <- l.p.syncer.program.desired.Frozen()
	}
	select {
	case l.p.looks <- look:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if d := <-out; d != nil {
		return d, nil
	}
	return nil, ErrNotProgrammed
}
