// SPDX-License-Identifier: Apache-2.0

//go:build linux

package packets

import (
	"strings"
	"testing"

	"github.com/nftproxy/nftproxy/e2e/netns"
)

// TestProbe: of each way to break a connection the verdict is right, from here and from a pod, and nothing is left behind.
func TestProbe(t *testing.T) {
	t.Parallel()
	w := newWorld(t, config{node: true})
	if !w.hasOwnedTables(t) {
		t.Skip("this kernel has no tables that have an owner")
	}
	for _, b := range w.brokenWays(t) {
		for p, want := range map[string]string{"tcp": b.tcp, "udp": b.udp} {
			if p == "udp" && strings.HasSuffix(want, "answered") {
				continue // nobody answers an empty datagram
			}
			for _, f := range netns.Families() {
				args := []string{"explain", b.service.at(f, b.port).String() + "/" + p, "--probe", "--manifests", w.manifests.Dir, "--hostname-override", "node"}
				if b.from != w.Node {
					args = append(args, "--netns", b.from.Path())
				}
				out := w.run(t, args...)
				if _, verdict, _ := strings.Cut(out, "Verdict: "); !strings.Contains(verdict, want) {
					t.Errorf("%s, %s %s: no verdict %q in\n%s", b.name, p, f, want, out)
				}
				if w.traced(t) {
					t.Errorf("%s: the table stays", b.name)
				}
			}
		}
	}
}
