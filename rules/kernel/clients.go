// SPDX-License-Identifier: Apache-2.0

//go:build linux

package kernel

import (
	"iter"
	"slices"

	"github.com/nftproxy/nftproxy/nfnetlink"
	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/wire"
)

// replaced returns the maps that packets fill which tables get that are replaced.
func replaced(ops []rules.Op) (maps []*rules.Op) {
	for i := range ops {
		if op := &ops[i]; op.Kind == rules.AddSet && op.Set.Kind.Dynamic() &&
			slices.ContainsFunc(ops, func(o rules.Op) bool { return o.Kind == rules.ResetTable && o.Family == op.Family }) {
			maps = append(maps, op)
		}
	}
	return maps
}

// keepClients adds the clients to the batch that maps of the table remember which it replaces, as far as there is room: they
// stay with their endpoints. Those that come while it is carried out are lost.
func keepClients(k *conn, table string, maps []*rules.Op, room int) {
	for _, op := range maps {
		ours := false
		err := k.ask(wire.GetSet(op.Family, table, op.Set.Name()), func(v nfnetlink.Data) { _, ours = wire.ParseSet(v).Ours(op.Family) })
		if err == nil && ours {
			wire.AddClients(&k.batch, op, clientsOf(k, op.Family, table, op.Set), room)
		}
	}
}

// aboutAny says whether the kernel refused the elements of one of the maps.
func aboutAny(err error, maps []*rules.Op) bool {
	return slices.ContainsFunc(rules.RefusalOf(err).Objects, func(o rules.Object) bool {
		return o.Kind == rules.AddElements && slices.ContainsFunc(maps, func(op *rules.Op) bool { return op.Family == o.Family && op.Set.Name() == o.Set })
	})
}

// clientsOf lists the elements of a map; after an error, those that came.
func clientsOf(k *conn, f rules.Family, table string, id rules.SetID) iter.Seq[wire.Element] {
	return func(yield func(wire.Element) bool) {
		more := true
		_ = k.ask(wire.GetElements(f, table, id), func(v nfnetlink.Data) {
			wire.EachElement(f, id.Kind, v, func(e wire.Element) { more = more && yield(e) })
		})
	}
}
