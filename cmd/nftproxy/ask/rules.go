// SPDX-License-Identifier: Apache-2.0

package ask

import (
	"net/http"
	"slices"
	"strings"

	"github.com/nftproxy/nftproxy/proxier"
	"github.com/nftproxy/nftproxy/proxier/cluster"
	"github.com/nftproxy/nftproxy/rules"
)

// mostElements is how many elements of each set, map and chain of a Service are shown.
const mostElements = 500

// Rules is the answer to /v1/rules.
type Rules struct {
	// Text is what the Service has in the tables, as nft lists it.
	Text string `json:"text"`
	// More is how many elements and rules are left out.
	More int `json:"more,omitempty"`
}

// rules answers with the objects of a Service.
func (d *Daemon) rules(r *http.Request) (any, error) {
	n := cluster.ObjectName{Namespace: r.PathValue("namespace"), Name: r.PathValue("name")}
	s, ok := d.Proxier.Service(n)
	switch {
	case !ok:
		return nil, refuse(http.StatusNotFound, "%s", d.absent(n))
	case len(s.Look.Endpoints) > mostEndpoints:
		return nil, refuse(http.StatusRequestEntityTooLarge, "service %s has %d endpoints, of all its ports: the rules of more than %d are not shown here", n, len(s.Look.Endpoints), mostEndpoints)
	}
	var b strings.Builder
	state, more := rulesOf(&s, d.Table)
	if err := state.WriteNotes(&b); err != nil {
		return nil, err
	}
	return Rules{b.String(), more}, nil
}

// rulesOf returns what the tables have of a Service alone, and how many elements and rules of it are left out.
func rulesOf(s *proxier.Service, table string) (state rules.State, more int) {
	state.Name = table
	for i := range s.Ports {
		p := &s.Ports[i]
		t := state.Tables[p.Family]
		if t == nil {
			t = rules.NewTable()
			state.Tables[p.Family] = t
		}
		for _, c := range slices.Concat(p.Objects.Chains, p.Objects.Shared) {
			if over := len(c.Rules) - mostElements; over > 0 {
				c.Rules, more = c.Rules[:mostElements], more+over
			}
			t.Chains[c.Name] = c
		}
		for _, m := range p.Objects.Affinity {
			t.Affinity[m.Set], t.Sets[m.Set] = m, map[rules.Key]rules.Value{}
		}
		for _, elements := range p.Objects.Sets {
			set := t.Sets[elements.Set]
			if set == nil {
				set = map[rules.Key]rules.Value{}
				t.Sets[elements.Set] = set
			}
			for _, e := range elements.Elements {
				if len(set) == mostElements {
					more++
					continue
				}
				set[e.Key] = e.Value
			}
		}
	}
	return state, more
}
