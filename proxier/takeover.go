// SPDX-License-Identifier: Apache-2.0

package proxier

import (
	"fmt"
	"slices"

	"github.com/nftproxy/nftproxy/rules"
)

// prepare makes desired what it should be while another process writes the tables. It returns what that has changed.
func (p *programmer) prepare(node rules.Node, builds []rules.Owned) []rules.Thing {
	changed := slices.Concat(thingsOf(p.setNode(node)), thingsOf(p.desired.Update(builds)))
	p.end() // nothing of it is in the kernel
	return changed
}

// differing returns those of things (nil: of everything) that the kernel holds otherwise than desired, without writing.
func (p *programmer) differing(things []rules.Thing) ([]rules.Thing, error) {
	c := p.desired.Compare(things)
	if err := p.kernel.Scan(p.config.Table, things, c); err != nil {
		return nil, fmt.Errorf("compare the tables that another process writes: %w", err)
	}
	if c.Whole() {
		return []rules.Thing{{Kind: rules.Everything}}, nil
	}
	return thingsOf(c.Tx()), nil
}

// takeOver makes the kernel equal to what was prepared, where it may differ: in things (nil: in everything). An error means that all
// must be tried again.
func (p *programmer) takeOver(things []rules.Thing) (_ outcome, err error) {
	p.begin()
	p.out.adopted, p.out.node = true, true
	p.out.written, err = p.compare(things)
	p.adopted = err == nil
	return p.end(), err
}
