// SPDX-License-Identifier: Apache-2.0

package kubeproxy

import (
	"context"
	"fmt"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/ipvs"
	"github.com/nftproxy/nftproxy/conntrack"
)

// endForwarded deletes the entries of the connections that IPVS forwarded, whose virtual servers are gone. Only IPVS knew where they
// go. With their entries they would be silent until their clients give up, which UDP's never do. Without them their next packet meets
// the rules: an endpoint resets a TCP connection that it does not know, and answers a datagram.
func endForwarded(left ipvs.Left) ([]string, error) {
	if len(left.Servers) == 0 {
		return nil, nil
	}
	conn, err := conntrack.Open()
	if err != nil {
		return nil, fmt.Errorf("end the connections that IPVS forwarded: %w", err)
	}
	defer func() { _ = conn.Close() }()
	var flows []conntrack.Flow
	listed := eachForwarded(conn, left, func(f conntrack.Flow) { flows = append(flows, f) })
	n, err := conn.Delete(context.Background(), flows)
	if listed != nil {
		err = listed
	}
	if err != nil {
		err = fmt.Errorf("end the connections that IPVS forwarded: %w", err)
	}
	if n == 0 {
		return nil, err
	}
	return []string{fmt.Sprintf("ended %d open connections that IPVS forwarded: their clients connect again", n)}, err
}

// countForwarded returns how many connections IPVS forwards; 0, too, where that cannot be told.
func countForwarded(left ipvs.Left) (n int) {
	if len(left.Servers) == 0 {
		return 0
	}
	conn, err := conntrack.Open()
	if err != nil {
		return 0
	}
	defer func() { _ = conn.Close() }()
	if err := eachForwarded(conn, left, func(conntrack.Flow) { n++ }); err != nil {
		return 0
	}
	return n
}

func eachForwarded(conn *conntrack.Conn, left ipvs.Left, fn func(conntrack.Flow)) error {
	forwards := left.Forwards()
	return conn.EachOpen(context.Background(), func(f conntrack.Flow) {
		if forwards(f) {
			fn(f)
		}
	})
}
