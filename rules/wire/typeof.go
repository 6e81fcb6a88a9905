// SPDX-License-Identifier: Apache-2.0

//go:build linux

package wire

import (
	"encoding/binary"

	"github.com/google/nftables/userdata"
	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/nfnetlink"
	"github.com/nftproxy/nftproxy/rules"
)

// nft prints a map whose key is of type integer only if the map's user data say
// from which expressions its types are taken ('typeof'). These are the numbers of
// nft's expressions and protocol descriptions (its expression.h and proto.h).
const (
	udataExprPayload = 7
	udataExprMeta    = 9
	udataExprConcat  = 13
	udataExprNumgen  = 23

	udataProtoTH   = 11
	udataProtoIP   = 12
	udataProtoIP6  = 13
	udataTHDport   = 2
	udataIPDaddr   = 12
	udataIP6Daddr  = 9
	udataTypeofID  = 0 // the expression's number
	udataTypeofArg = 1 // what the expression consists of
)

func daddrUdata(f rules.Family) []byte {
	if f == rules.IPv6 {
		return payloadUdata(udataProtoIP6, udataIP6Daddr)
	}
	return payloadUdata(udataProtoIP, udataIPDaddr)
}

func l4protoUdata(rules.Family) []byte {
	return exprUdata(udataExprMeta, udata32(nil, 0, unix.NFT_META_L4PROTO))
}

func dportUdata(rules.Family) []byte { return payloadUdata(udataProtoTH, udataTHDport) }

// typeofUdata returns the user data that say from which expressions the types of a set, or of a map to endpoints, are taken, such
// as `typeof numgen inc mod 1 . numgen inc mod 2 : ip daddr . th dport`.
func typeofUdata(f rules.Family, k rules.SetKind) []byte {
	var key [][]byte
	for _, p := range k.Key() {
		key = append(key, keyParts[p].typeof(f))
	}
	u := udata32(nil, uint8(userdata.NFTNL_UDATA_SET_KEYBYTEORDER), 0)
	if !k.IsMap() {
		return userdata.Append(u, userdata.NFTNL_UDATA_SET_KEY_TYPEOF, concatUdata(key...))
	}
	u = udata32(u, uint8(userdata.NFTNL_UDATA_SET_DATABYTEORDER), 0)
	u = userdata.Append(u, userdata.NFTNL_UDATA_SET_KEY_TYPEOF, concatUdata(key...))
	u = userdata.Append(u, userdata.NFTNL_UDATA_SET_DATA_TYPEOF, concatUdata(daddrUdata(f), dportUdata(f)))
	return udata32(u, uint8(userdata.NFTNL_UDATA_SET_DATA_INTERVAL), 0)
}

func udata32(u []byte, typ uint8, v uint32) []byte {
	return userdata.Append(u, userdata.Type(typ), binary.NativeEndian.AppendUint32(nil, v))
}

func exprUdata(expression uint32, arg []byte) []byte {
	return userdata.Append(udata32(nil, udataTypeofID, expression), udataTypeofArg, arg)
}

func concatUdata(parts ...[]byte) []byte {
	var list nfnetlink.Data
	for i, p := range parts {
		list = userdata.Append(list, userdata.Type(i), p)
	}
	return exprUdata(udataExprConcat, list)
}

func numgenUdata(mod uint32) func(rules.Family) []byte {
	return func(rules.Family) []byte {
		return exprUdata(udataExprNumgen, udata32(udata32(udata32(nil, 0, 0), 1, mod), 2, 0))
	}
}

func payloadUdata(proto, field uint32) []byte {
	return exprUdata(udataExprPayload, udata32(udata32(nil, 0, proto), 1, field))
}
