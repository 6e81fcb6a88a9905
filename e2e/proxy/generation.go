// SPDX-License-Identifier: Apache-2.0

//go:build linux

package proxy

import (
	"context"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/nfnetlink"
)

// Generation returns the number of the ruleset's generation in a namespace. Each transaction of nftables raises it: where it
// stays, nobody has written.
func Generation(ns *netns.NS) (gen uint32, err error) {
	err = ns.Do(func() error {
		s, openErr := nfnetlink.Open(nfnetlink.Options{})
		if openErr != nil {
			return openErr
		}
		defer func() { _ = s.Close() }()
		request := nfnetlink.Request(unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_GETGEN, unix.NLM_F_ACK, unix.AF_UNSPEC)
		return s.Ask(context.Background(), request, func(m nfnetlink.Message) {
			for typ, v := range m.Attributes() {
				if typ == unix.NFTA_GEN_ID {
					gen = v.U32()
				}
			}
		})
	})
	if err != nil {
		return 0, fmt.Errorf("read the ruleset's generation in %s: %w", ns.Name(), err)
	}
	return gen, nil
}
