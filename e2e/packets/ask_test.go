// SPDX-License-Identifier: Apache-2.0

//go:build linux

package packets

import (
	"encoding/json"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/ask"
	"github.com/nftproxy/nftproxy/e2e/netns"
)

// TestAskFlows: what nftproxy answers of connections, their counts and session affinity is what was sent.
func TestAskFlows(t *testing.T) {
	t.Parallel()
	socket := filepath.Join(t.TempDir(), "TABLE.sock")
	w := newWorld(t, config{args: []string{"--service-metrics", "--socket", socket}})
	s := w.service("sticky", sticky(10800)).to(ready(w.Local[0]))
	plain := w.service("plain").to(ready(w.Local[0], w.RemotePods[0]))
	w.apply(t, s, plain)
	const each = 3
	for range each {
		for _, s := range []*svc{s, plain} {
			for _, f := range netns.Families() {
				var c net.Conn
				if err := w.Client.Do(func() (err error) {
					c, err = net.Dial("tcp", s.at(f, servicePort).String())
					return err
				}); err != nil {
					t.Fatal(err)
				}
				defer c.Close()
			}
		}
	}
	items := func(into any, args ...string) {
		t.Helper()
		out := w.run(t, append(args, "-A", "-o", "json", "--socket", socket)...)
		if err := json.Unmarshal([]byte(out), into); err != nil {
			t.Fatalf("%v: %v in %s", args, err, out)
		}
	}
	eventually(t, "the connections", func() error {
		var found struct{ Items []ask.Connection }
		items(&found, "get", "connections")
		open := map[string]int{}
		for _, c := range found.Items {
			if !c.Used {
				return fmt.Errorf("%+v is not used", c)
			}
			open[c.Name+" "+c.Family] += c.Open
		}
		for _, key := range []string{"sticky ip", "sticky ip6", "plain ip", "plain ip6"} {
			if open[key] != each {
				return fmt.Errorf("open are %v", open)
			}
		}
		return nil
	})
	var clients struct{ Items []ask.StickyClient }
	items(&clients, "get", "affinity")
	if len(clients.Items) != 2 { // one of each family
		t.Errorf("clients %+v", clients.Items)
	}
	for _, c := range clients.Items {
		if c.Name != "sticky" || c.Gone || c.Seconds == 0 || c.Client != w.Client.V4.String() && c.Client != w.Client.V6.String() {
			t.Errorf("%+v", c)
		}
	}
	// Of an endpoint that is gone the connections stay, and the client does until it comes again.
	s.to(ready(w.RemotePods[1]))
	w.apply(t, s)
	items(&clients, "get", "affinity")
	for _, c := range clients.Items {
		if !c.Gone {
			t.Errorf("its endpoint is gone, and %+v", c)
		}
	}
	table := w.run(t, "get", "services", "-A", "-o", "wide", "--socket", socket)
	if header, rows, _ := strings.Cut(table, "\n"); !strings.Contains(header, "NEW/S") || !strings.Contains(rows, "   0.0 ") {
		t.Errorf("no connections a second in\n%s", table)
	}
	if out := w.run(t, "diff", "--socket", socket); !strings.HasPrefix(out, "equal: ") {
		t.Error(out)
	}
}

// TestAskDiffOfMany: what nftproxy answers of more than can be named one by one is compared with the kernel, too.
func TestAskDiffOfMany(t *testing.T) {
	t.Parallel()
	socket := filepath.Join(t.TempDir(), "TABLE.sock")
	w := newWorld(t, config{args: []string{"--socket", socket}})
	var list []*svc
	for i := range 60 {
		list = append(list, w.service(fmt.Sprint("many-", i)).to(ready(w.Local[0], w.RemotePods[0])))
	}
	w.apply(t, list...)
	if out := w.run(t, "diff", "--socket", socket); !strings.HasPrefix(out, "equal: the kernel holds just what 361 service ports need") {
		t.Errorf("%.1000s", out)
	}
}
