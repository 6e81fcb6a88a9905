// SPDX-License-Identifier: Apache-2.0

//go:build linux

package conntrack

import (
	"context"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/nfnetlink"
)

// Usage returns how full the table is. It asks over netlink, because /proc/sys is
// often not mounted in containers and shows the reading thread's namespace.
func (c *Conn) Usage(ctx context.Context) (Usage, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var u Usage
	err := c.socket.Ask(ctx, nfnetlink.Request(msgGetStats, unix.NLM_F_ACK, 0), func(m nfnetlink.Message) {
		for typ, value := range m.Attributes() {
			switch typ {
			case attrStatsEntries:
				u.Entries = value.U32()
			case attrStatsMaxEntries:
				u.Max = value.U32()
			}
		}
	})
	if err != nil {
		return Usage{}, fmt.Errorf("read conntrack usage: %w", err)
	}
	return u, nil
}
