// SPDX-License-Identifier: Apache-2.0

//go:build linux

package packets

import (
	"os"
	"testing"

	"github.com/nftproxy/nftproxy/e2e/netns/netnstest"
	"github.com/nftproxy/nftproxy/e2e/proxy"
)

// TestOnlyNetAdmin: CAP_NET_ADMIN is all that nftproxy needs, as its DaemonSet has it.
func TestOnlyNetAdmin(t *testing.T) {
	t.Parallel()
	setpriv := netnstest.Tool(t, "setpriv")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, config{})
	w.stop(t)
	c := w.process()
	c.Program = setpriv
	c.Args = append([]string{"--bounding-set=-all,+net_admin", "--inh-caps=-all", self}, append(w.args[:len(w.args):len(w.args)], "--socket=")...)
	if w.nftproxy, err = proxy.Start(c); err != nil {
		t.Fatal(err)
	}
	if err := w.nftproxy.WaitSynced(patient(t)); err != nil {
		t.Fatalf("%v\n%s", err, w.nftproxy.Log())
	}
	a, b := w.Local[0], w.RemotePods[0]
	s := w.full("web").to(ready(a, b))
	w.apply(t, s)
	w.wantEverywhere(t, s, spread(a, b))
	w.apply(t, s.to(ready(b)))
	w.wantEverywhere(t, s, spread(b))
}
