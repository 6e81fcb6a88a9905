// SPDX-License-Identifier: Apache-2.0

package ask

import (
	"maps"

	"github.com/nftproxy/nftproxy/rules"
)

// parts puts parts of the kernel's tables together. It implements rules.Parts.
type parts struct {
	name  string
	state rules.State
}

// Begin implements rules.Parts.
func (p *parts) Begin() {
	p.state = rules.State{Name: p.name}
	for f := range p.state.Tables {
		p.state.Tables[f] = rules.NewTable()
	}
}

// Part implements rules.Parts.
func (p *parts) Part(part rules.Part) {
	t := p.state.Tables[part.Family]
	if part.Table == nil || t == nil { // there is no such table
		p.state.Tables[part.Family] = nil
		return
	}
	maps.Copy(t.Chains, part.Table.Chains)
	maps.Copy(t.Affinity, part.Table.Affinity)
	for id, set := range part.Table.Sets {
		if t.Sets[id] == nil {
			t.Sets[id] = map[rules.Key]rules.Value{}
		}
		maps.Copy(t.Sets[id], set)
	}
}
