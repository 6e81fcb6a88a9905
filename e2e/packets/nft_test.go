// SPDX-License-Identifier: Apache-2.0

//go:build linux

package packets

import (
	"strings"
	"testing"

	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/netns/netnstest"
)

// A user's `nft list ruleset` prints every shape of rule and element that is used.
func TestListRuleset(t *testing.T) {
	t.Parallel()
	netnstest.Tool(t, "nft")
	w := newWorld(t, config{})
	all := append([]netns.Host{w.Local[0], w.Local[1]}, w.RemotePods...)
	w.apply(t,
		w.service("none"),
		w.service("one").to(ready(w.Local[0])),
		w.service("two").to(ready(w.Local[0], w.RemotePods[0])),
		w.service("seven").to(ready(all...)),
		w.service(strings.Repeat("n", 63)).to(ready(all...)))
	text := w.listRuleset(t)
	for _, want := range []string{
		"table ip nftproxy {", "table ip6 nftproxy {",
		"chain service/test/two/tcp {", "chain service/test/seven/sctp {",
		"numgen inc mod 7", "masquerade fully-random", "reject",
		"goto service/test/" + strings.Repeat("n", 63) + "/udp",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("it does not have %q", want)
		}
	}
	if t.Failed() {
		t.Log(text)
	}
}
