// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"fmt"
	"slices"
)

// picture draws the cluster, in ASCII for terminals of every kind.
func (d *demo) picture() {
	c := d.cluster
	p := slices.Concat(c.Local, c.RemotePods)
	d.heading("A cluster of network namespaces")
	fmt.Fprintf(d, `
  pod client  %-11s --+
  pod p1      %-11s --+-- node %s -----------+
  pod p2      %-11s --+   runs nftproxy              |
                                                           +-- outside %s
  pod p3      %-11s --+                              |   not in the cluster
  pod p4      %-11s --+-- another node %s ---+
  pod p5      %-11s --+

  All of them have IPv6 addresses, too: %s is %s, for instance.
`, c.Client.V4, p[0].V4, c.Node.V4, p[1].V4, c.Outside.V4, p[2].V4, p[3].V4, c.Remote.V4, p[4].V4,
		p[0].V4, p[0].V6)
}
