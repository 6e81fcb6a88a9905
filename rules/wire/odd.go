// SPDX-License-Identifier: Apache-2.0

//go:build linux

package wire

import (
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/nfnetlink"
	"github.com/nftproxy/nftproxy/rules"
)

// Attributes and flags that package unix does not have (linux/netfilter/nf_tables.h).
const (
	tableAttrUserdata  = 6
	tableAttrOwner     = 7
	tableOwner         = 2 // NFT_TABLE_F_OWNER
	tablePersist       = 4 // NFT_TABLE_F_PERSIST
	chainAttrFlags     = 10
	chainAttrUserdata  = 12
	chainIsBase        = 1
	setAttrExprs       = 18
	elemAttrExprs      = 11
	elemIsCatchall     = 2
	hookAttrDev        = 3
	hookAttrDevs       = 4
	flowtableAttrTable = 1
	flowtableAttrName  = 2
)

// The types under which nft keeps comments in user data (libnftnl's udata.h).
const (
	udataTableComment   = 0
	udataChainComment   = 0
	udataRuleComment    = 0
	udataElementComment = 0
	udataSetComment     = 7
)

// comment returns a comment in user data, if there is one, as nft writes it: quoted, for anybody chose it. We write none.
func comment(userdata nfnetlink.Data, typ byte) (string, bool) {
	for len(userdata) >= 2 {
		t, n := userdata[0], int(userdata[1])
		if userdata = userdata[2:]; n > len(userdata) {
			break
		}
		if t == typ {
			return "comment " + strconv.QuoteToASCII(userdata[:n].Text()), true
		}
		userdata = userdata[n:]
	}
	return "", false
}

// ObjectList asks for one kind of what a table has besides chains and sets.
type ObjectList struct {
	Request          *nfnetlink.Builder
	table, name, typ uint16 // attributes
}

// GetObjects returns the requests for what a table has besides chains and sets: counters, quotas, limits, flowtables and so
// on, none of which is ours.
func GetObjects(f rules.Family, table string) []ObjectList {
	list := func(request, table, name, typ uint16) ObjectList {
		return ObjectList{get(request, unix.NLM_F_DUMP, NFProto(f)), table, name, typ}
	}
	lists := []ObjectList{
		list(unix.NFT_MSG_GETOBJ, unix.NFTA_OBJ_TABLE, unix.NFTA_OBJ_NAME, unix.NFTA_OBJ_TYPE),
		list(unix.NFT_MSG_GETFLOWTABLE, flowtableAttrTable, flowtableAttrName, 0),
	}
	for _, l := range lists {
		l.Request.Str(l.table, table)
	}
	return lists
}

// Parse returns an object, and its table's name.
func (l ObjectList) Parse(v nfnetlink.Data) (table string, o rules.ForeignObject) {
	for typ, v := range v.Attributes() {
		switch typ {
		case l.table:
			table = v.Text()
		case l.name:
			o.Name = v.Text()
		case l.typ:
			o.Type = v.U32()
		}
	}
	return table, o
}

// deleteObject writes the deletion of something that is neither a chain nor a set.
func (b *Batch) deleteObject(op *rules.Op) {
	if op.Odd.Type == 0 {
		b.opMessage(op, unix.NFT_MSG_DELFLOWTABLE, 0, 0)
		b.Str(flowtableAttrTable, b.table)
		b.Str(flowtableAttrName, op.Odd.Name)
	} else {
		b.opMessage(op, unix.NFT_MSG_DELOBJ, 0, 0)
		b.Str(unix.NFTA_OBJ_TABLE, b.table)
		b.Str(unix.NFTA_OBJ_NAME, op.Odd.Name)
		b.U32(unix.NFTA_OBJ_TYPE, op.Odd.Type)
	}
	b.End()
}
