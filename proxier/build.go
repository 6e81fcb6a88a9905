// SPDX-License-Identifier: Apache-2.0

package proxier

import (
	"github.com/nftproxy/nftproxy/proxier/cluster"
	"github.com/nftproxy/nftproxy/rules"
)

// builder builds owners' objects for one operation of a programmer.
type builder struct {
	view    *cluster.View // closed after the last owner
	left    int           // owners that are not built yet
	config  rules.Config
	node    rules.Node
	forward bool                             // NodePorts are forwarded on loopback addresses
	missing [2]bool                          // the families that the node does not have: nothing is forwarded there
	ejected func(rules.Owner) rules.Ejection // nil: no endpoint is
	watch   bool                             // who does not answer is looked for
	built   []rules.Owner
	aspects map[rules.Owner]aspects
}

// aspects is what comes of an owner's input besides its objects. Few owners have any: there may be very many.
type aspects struct {
	lost           []cluster.Conflict
	leftOut, limit int // endpoints beyond the limit
	noLocal        noLocal
	forwarding     *forwarding // nil: nothing is forwarded
	watched        *watched    // nil: there is no failover
}

// expect says how many owners are to be built. Afterwards changes may come in again.
func (b *builder) expect(owners int) {
	if b.left = owners; owners == 0 {
		b.view.Close()
	}
}

// build builds the objects of owners. Inputs come one by one: all at once would take as much memory as the store.
func (b *builder) build(owners []rules.Owner) []rules.Owned {
	b.built = append(b.built, owners...)
	out := make([]rules.Owned, len(owners))
	for i, o := range owners {
		in := b.view.Input(o)
		out[i] = rules.Owned{Owner: o, Objects: b.objects(&in)}
	}
	b.expect(b.left - len(owners))
	return out
}

// objects builds one owner's objects.
func (b *builder) objects(in *cluster.Input) rules.Objects {
	if in.Port.Port == 0 {
		return rules.Objects{}
	}
	if b.ejected != nil && in.Port.Failover {
		in.Port.Ejection = b.ejected(in.Owner)
	}
	usable := rules.SelectEndpoints(&in.Port, in.Endpoints, &b.node)
	objects := rules.BuildUsable(in.Port, usable, b.config, b.node)
	a := aspects{lost: in.Lost, leftOut: objects.LeftOut, limit: in.Port.EndpointLimit, noLocal: noLocalOf(&in.Port, &usable)}
	if b.forward {
		if at := localPortOf(&in.Port, b.missing); at.network != "" {
			a.forwarding = forwardingOf(&in.Port, at, &usable)
		}
	}
	if b.watch && in.Port.Failover {
		a.watched = &watched{sticky: in.Port.Affinity > 0, protocol: in.Port.Protocol, usable: usable.Watched}
	}
	if a.any() {
		if b.aspects == nil {
			b.aspects = map[rules.Owner]aspects{}
		}
		b.aspects[in.Owner] = a
	}
	return objects
}

func (a *aspects) any() bool {
	return len(a.lost) > 0 || a.leftOut > 0 || a.noLocal != noLocal{} || a.forwarding != nil || a.watched != nil
}
