// SPDX-License-Identifier: Apache-2.0

package proxier

import (
	"context"
	"errors"
	"fmt"

	"github.com/nftproxy/nftproxy/rules"
)

// ErrNotProgrammed says that the kernel is not programmed yet, so that there is nothing to compare it with.
var ErrNotProgrammed = errors.New("not all that was listed is programmed yet")

// confirmations is how often what differs is looked at again: changes that are programmed while the kernel is read look like
// differences.
const confirmations = 3

// Differences compares everything in the kernel with what it should hold, and says how many service ports that is about. scan
// reads from the kernel. Programming is held up for a copy of a map with all owners, however long the reading takes. It may be
// called at any time while Run lasts.
func (p *Proxier) Differences(ctx context.Context, most int, scan func([]rules.Thing, rules.Parts) error) (found rules.Found, servicePorts int, err error) {
	var things []rules.Thing
	for range 1 + confirmations {
		desired, failed := p.desired(ctx)
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
func (p *Proxier) desired(ctx context.Context) (*rules.Desired, error) {
	out := make(chan *rules.Desired, 1)
	look := func() {
		if !p.syncer.program.adopted {
			close(out)
			return
		}
		out <- p.syncer.program.desired.Frozen()
	}
	select {
	case p.looks <- look:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if d := <-out; d != nil {
		return d, nil
	}
	return nil, ErrNotProgrammed
}
