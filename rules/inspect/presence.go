// SPDX-License-Identifier: Apache-2.0

//go:build linux

package inspect

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/nfnetlink"
	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/wire"
)

// Presence says what is there of the tables of a name, of no single moment.
func (i *Inspector) Presence(table string) (out [2]Presence, err error) {
	for _, f := range rules.Families {
		if out[f], err = i.presence(f, table); err != nil {
			return out, fmt.Errorf("look at table %s %s: %w", f, table, err)
		}
	}
	return out, nil
}

func (i *Inspector) presence(f rules.Family, table string) (p Presence, err error) {
	var head *rules.Table
	err = i.ask(wire.GetTable(f, table), func(v nfnetlink.Data) { head, _ = wire.ParseTable(v) })
	if errors.Is(err, unix.ENOENT) {
		return p, nil
	}
	if err != nil {
		return p, err
	}
	p.Table = true
	if head.Dormant { // its chains are not in force
		return p, nil
	}
	sets, err := i.sets(f, table)
	if errors.Is(err, unix.ENOENT) { // it has just gone
		return Presence{}, nil
	}
	for id := range sets {
		if p.Forwards || err != nil {
			break
		}
		p.Forwards, err = i.leadsToEndpoints(f, table, id)
	}
	return p, err
}

// leadsToEndpoints says whether a map has endpoints.
func (i *Inspector) leadsToEndpoints(f rules.Family, table string, id rules.SetID) (some bool, err error) {
	if id.Kind.Forwards() {
		err = i.elements(f, table, id, func(wire.Element) { some = true })
	}
	return some, err
}
