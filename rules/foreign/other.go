// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package foreign

import (
	"errors"
	"net/netip"

	"github.com/nftproxy/nftproxy/rules"
)

// Dump exists for the same reason as Ruleset.
type Dump struct{}

// New fails.
func New([]Dump) (*Ruleset, error) { return nil, errors.ErrUnsupported }

// Ruleset exists so that programs compile on systems other than Linux, where there is none.
type Ruleset struct{}

// Packet is the first packet of a connection.
type Packet struct {
	Protocol  rules.Protocol
	Src, Dst  netip.AddrPort
	Interface string
	Local     func(netip.Addr) bool
}

// Way is what may become of a packet.
type Way struct {
	To                                         netip.AddrPort
	Translated, Rejected, Dropped, Masqueraded bool
	Affinity                                   uint32
}

// Frontend is a frontend that rules are about.
type Frontend struct {
	rules.Frontend
	Service string
}

// Connect fails.
func (*Ruleset) Connect(Packet) ([]Way, error) { return nil, errors.ErrUnsupported }

// Frontends returns none.
func (*Ruleset) Frontends() []Frontend { return nil }

// Mode returns none.
func (*Ruleset) Mode() string { return "" }
