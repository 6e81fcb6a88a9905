// SPDX-License-Identifier: Apache-2.0

//go:build linux

package netns

import (
	"testing"
	"time"
)

// Nodes reach each other, until one is unplugged: the others notice nothing of it.
func TestUnplug(t *testing.T) {
	c, err := NewNodes(3)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	check := func(plugged int) {
		t.Helper()
		for _, f := range Families() {
			for i, to := range c.Nodes[1:] {
				timeout := Patience()
				if i >= plugged {
					timeout = 100 * time.Millisecond // nothing is to come
				}
				if err := dial(c.Nodes[0].NS, listen(t, to, f), timeout); (err == nil) != (i < plugged) {
					t.Errorf("%s from node1 to %s: %v", f, to.Name(), err)
				}
			}
		}
	}
	check(2)
	if err := c.Unplug(c.Nodes[2]); err != nil {
		t.Fatal(err)
	}
	check(1)
	if err := c.Unplug(c.Outside); err == nil {
		t.Error("outside, which hangs on no port, was unplugged")
	}
}
