// SPDX-License-Identifier: Apache-2.0

//go:build linux

package wire

import (
	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/nfnetlink"
	"github.com/nftproxy/nftproxy/rules"
)

// get begins a request.
func get(typ, flags uint16, family uint8) *nfnetlink.Builder {
	return nfnetlink.Request(unix.NFNL_SUBSYS_NFTABLES<<8|typ, flags|unix.NLM_F_ACK, family)
}

// GetGeneration asks for the ruleset's generation.
func GetGeneration() *nfnetlink.Builder { return get(unix.NFT_MSG_GETGEN, 0, unix.AF_UNSPEC) }

// GetTable asks for a table.
func GetTable(f rules.Family, table string) *nfnetlink.Builder {
	b := get(unix.NFT_MSG_GETTABLE, 0, NFProto(f))
	b.Str(unix.NFTA_TABLE_NAME, table)
	return b
}

// GetChains asks for all chains of all tables of a family (NFPROTO_*).
func GetChains(family uint8) *nfnetlink.Builder {
	return get(unix.NFT_MSG_GETCHAIN, unix.NLM_F_DUMP, family)
}

// GetChain asks for one chain, without its rules.
func GetChain(f rules.Family, table, chain string) *nfnetlink.Builder {
	b := get(unix.NFT_MSG_GETCHAIN, 0, NFProto(f))
	b.Str(unix.NFTA_CHAIN_TABLE, table)
	b.Str(unix.NFTA_CHAIN_NAME, chain)
	return b
}

// GetRules asks for the rules of a chain; of all chains of the table, chain by chain, if it names none; of all tables, if it
// names none either.
func GetRules(f rules.Family, table, chain string) *nfnetlink.Builder {
	b := get(unix.NFT_MSG_GETRULE, unix.NLM_F_DUMP, NFProto(f))
	if table != "" {
		b.Str(unix.NFTA_RULE_TABLE, table)
	}
	if chain != "" {
		b.Str(unix.NFTA_RULE_CHAIN, chain)
	}
	return b
}

// GetSets asks for the declarations of a table's sets.
func GetSets(f rules.Family, table string) *nfnetlink.Builder {
	b := get(unix.NFT_MSG_GETSET, unix.NLM_F_DUMP, NFProto(f))
	b.Str(unix.NFTA_SET_TABLE, table)
	return b
}

// GetSet asks for the declaration of one set.
func GetSet(f rules.Family, table, set string) *nfnetlink.Builder {
	b := get(unix.NFT_MSG_GETSET, 0, NFProto(f))
	b.Str(unix.NFTA_SET_TABLE, table)
	b.Str(unix.NFTA_SET_NAME, set)
	return b
}

// GetElements asks for the elements of a set.
func GetElements(f rules.Family, table string, id rules.SetID) *nfnetlink.Builder {
	return GetElementsOf(f, table, id.Name())
}

// GetElementsOf asks for the elements of a set of any name.
func GetElementsOf(f rules.Family, table, set string) *nfnetlink.Builder {
	b := get(unix.NFT_MSG_GETSETELEM, unix.NLM_F_DUMP, NFProto(f))
	b.Str(unix.NFTA_SET_ELEM_LIST_TABLE, table)
	b.Str(unix.NFTA_SET_ELEM_LIST_SET, set)
	return b
}

// GetElement asks for one element of a set.
func GetElement(f rules.Family, table string, id rules.SetID, key rules.Key) *nfnetlink.Builder {
	b := builder{*get(unix.NFT_MSG_GETSETELEM, 0, NFProto(f))}
	b.Str(unix.NFTA_SET_ELEM_LIST_TABLE, table)
	b.Str(unix.NFTA_SET_ELEM_LIST_SET, id.Name())
	list := b.Nest(unix.NFTA_SET_ELEM_LIST_ELEMENTS)
	b.element(id.Kind, &rules.Element{Key: key}, true)
	b.Close(list)
	return &b.Builder
}
