// SPDX-License-Identifier: Apache-2.0

//go:build linux

package conntrack

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Usage is how full the table of the network namespace is.
type Usage struct {
	Entries uint32 // sysctl net.netfilter.nf_conntrack_count
	Max     uint32 // sysctl net.netfilter.nf_conntrack_max; 0 is no limit
}

// Usage returns how full the table is. It asks over netlink, because /proc/sys is
// often not mounted in containers and shows the reading thread's namespace.
func (c *Conn) Usage(ctx context.Context) (Usage, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var u Usage
	var refused error
	err := c.socket.exchange(ctx, []message{newMessage(msgGetStats, unix.NLM_F_ACK, 0)}, func(data []byte) {
		for typ, value := range attributes(data) {
			switch typ {
			case attrStatsEntries:
				u.Entries = uint32At(value)
			case attrStatsMaxEntries:
				u.Max = uint32At(value)
			}
		}
	}, func(_ int, err error) { refused = err })
	if err = errors.Join(err, refused); err != nil {
		return Usage{}, fmt.Errorf("read conntrack usage: %w", err)
	}
	return u, nil
}
