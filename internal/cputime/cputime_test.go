// SPDX-License-Identifier: Apache-2.0

package cputime

import (
	"testing"
	"time"
)

// TestOf: work takes CPU time, and waiting takes next to none.
func TestOf(t *testing.T) {
	const some = 20 * time.Millisecond
	busy := Of(func() {
		for start := thread(); thread()-start < some; {
		}
	})
	if busy < some {
		t.Errorf("work for %v took %v", some, busy)
	}
	if idle := Of(func() { time.Sleep(10 * some) }); idle >= busy {
		t.Errorf("a wait of %v took %v, work for %v took %v", 10*some, idle, some, busy)
	}
}
