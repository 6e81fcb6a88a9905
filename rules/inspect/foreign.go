// SPDX-License-Identifier: Apache-2.0

//go:build linux

package inspect

import (
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/nfnetlink"
	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/foreign"
	"github.com/nftproxy/nftproxy/rules/wire"
)

// KubeProxyRules reads the tables that kube-proxy has its rules in, in its nftables mode and its iptables mode with iptables-nft, and,
// in that, those of other programs. Tables that are not there are not among them.
func (i *Inspector) KubeProxyRules() (out []foreign.Dump, err error) {
	err = nfnetlink.Again(func() error {
		out = nil
		for _, f := range rules.Families {
			for _, name := range append(foreign.IptablesTables(), foreign.KubeProxyTable) {
				d, derr := i.dump(f, name)
				switch {
				case errors.Is(derr, unix.ENOENT):
				case derr != nil:
					return fmt.Errorf("read table %s %s: %w", f, name, derr)
				default:
					out = append(out, d)
				}
			}
		}
		return nil
	})
	return out, err
}

// dump lists all that a table has.
func (i *Inspector) dump(f rules.Family, table string) (foreign.Dump, error) {
	d := foreign.Dump{Family: f, Table: table, Elements: map[string][]nfnetlink.Data{}}
	if err := i.ask(wire.GetTable(f, table), func(nfnetlink.Data) {}); err != nil {
		return d, err
	}
	// What is listed is in the socket's buffer, which the next answer overwrites.
	keep := func(to *[]nfnetlink.Data) func(nfnetlink.Data) {
		return func(v nfnetlink.Data) { *to = append(*to, slices.Clone(v)) }
	}
	if err := i.ask(wire.GetChains(wire.NFProto(f)), keep(&d.Chains)); err != nil {
		return d, err
	}
	if err := i.ask(wire.GetRules(f, table, ""), keep(&d.Rules)); err != nil {
		return d, err
	}
	if err := i.ask(wire.GetSets(f, table), keep(&d.Sets)); err != nil {
		return d, err
	}
	for _, s := range d.Sets {
		name := ""
		for typ, v := range s.Attributes() {
			if typ == unix.NFTA_SET_NAME {
				name = v.Text()
			}
		}
		var list []nfnetlink.Data
		if err := i.ask(wire.GetElementsOf(f, table, name), keep(&list)); err != nil {
			return d, err
		}
		d.Elements[name] = list
	}
	return d, nil
}
