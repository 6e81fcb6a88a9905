// SPDX-License-Identifier: Apache-2.0

package ask

import (
	"net/netip"
	"time"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/explain"
	"github.com/nftproxy/nftproxy/proxier"
	"github.com/nftproxy/nftproxy/proxier/cluster"
	"github.com/nftproxy/nftproxy/rules"
)

// startWhy is why the tables were written at nftproxy's start: endpoints of that time may have been in the kernel before.
const startWhy = "start"

// historyOf tells what records, the oldest first, say of a Service.
func historyOf(n cluster.ObjectName, records []proxier.Record, now time.Time) *explain.History {
	t := turns{h: &explain.History{At: now.UTC()}, last: map[turn]*explain.Turn{}, came: map[turn]bool{}}
	for i := range records {
		r := &records[i]
		if i == 0 || r.Why == startWhy {
			t.h.From = r.At.UTC()
			continue
		}
		for j := range r.Ports {
			if cluster.ServiceOf(r.Ports[j].Owner) == n {
				t.add(&r.Ports[j], r.At.UTC())
			}
		}
		if r.ServicePorts > len(r.Ports) { // it may be among the others
			t.h.Unnamed = r.At.UTC()
		}
	}
	for _, k := range t.order {
		if t.came[k] {
			t.h.Came = append(t.h.Came, *t.last[k])
		} else {
			t.h.Went = append(t.h.Went, *t.last[k])
		}
	}
	return t.h
}

// turn is an endpoint of a service port in one family.
type turn struct {
	owner rules.Owner
	addr  netip.AddrPort
}

// turns has the last time that each endpoint came or went.
type turns struct {
	h     *explain.History
	last  map[turn]*explain.Turn
	came  map[turn]bool // else it went
	order []turn
}

// add adds what a record says of a service port.
func (t *turns) add(p *proxier.Recorded, at time.Time) {
	t.h.Written = at
	silent := p.Backends == 0 && p.CameCount+p.WentCount+p.BegunCount+p.EndedCount == 0 // it has too much to be compared
	if silent || p.CameCount > len(p.Came) || p.WentCount > len(p.Went) {
		t.h.Unnamed = at
	}
	t.each(p.Owner, p.Went, at, false)
	t.each(p.Owner, p.Came, at, true)
}

func (t *turns) each(owner rules.Owner, list []netip.AddrPort, at time.Time, came bool) {
	of := ownerOf(owner)
	for _, a := range list {
		k := turn{owner, a}
		if t.last[k] == nil {
			t.order = append(t.order, k)
		}
		t.last[k], t.came[k] = &explain.Turn{Port: of.Port, Family: of.Family, Address: a.String(), At: at}, came
	}
}
