// SPDX-License-Identifier: Apache-2.0

package ask

import (
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/nftproxy/nftproxy/printable"
)

// Node is the answer to /v1/node. Its texts are printable.
type Node struct {
	Name string `json:"name"`
	Zone string `json:"zone,omitempty"`
	// Healthy is what /healthz says.
	Healthy bool `json:"healthy"`
	// Services and Refused are how many there are; Refused counts service ports in a family.
	Services int `json:"services"`
	Refused  int `json:"refused"`
	// NodePortAddresses are the node's addresses that serve NodePorts, without those of loopback.
	NodePortAddresses []string `json:"nodePortAddresses"`
	// Tracked is how full connection tracking is; none: the kernel does not tell.
	Tracked *Tracked `json:"conntrack,omitempty"`
	// Now is this node's clock.
	Now time.Time `json:"now"`
}

// Tracked is how full connection tracking is.
type Tracked struct {
	Entries uint64 `json:"entries"`
	// Limit is how many there may be; 0: there is no limit.
	Limit uint64 `json:"limit"`
}

// node answers with what is known of the node.
func (d *Daemon) node(*http.Request) (any, error) {
	look := d.Proxier.Looker()
	of := look.Node()
	out := Node{Name: printable.Word(d.Node), Zone: printable.Word(of.Zone), Healthy: d.Healthy == nil || d.Healthy(),
		Services: look.Count(), Refused: len(d.Proxier.Refused()), NodePortAddresses: []string{}, Now: time.Now().UTC()}
	for _, a := range of.NodePortIPs {
		out.NodePortAddresses = append(out.NodePortAddresses, a.String())
	}
	entries, known := number("nf_conntrack_count")
	if limit, ok := number("nf_conntrack_max"); ok && known {
		out.Tracked = &Tracked{entries, limit}
	}
	return out, nil
}

// number reads a file of connection tracking; false: there is none.
func number(file string) (uint64, bool) {
	text, err := os.ReadFile(filepath.Join("/proc/sys/net/netfilter", file))
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
	return n, err == nil
}
