// SPDX-License-Identifier: Apache-2.0

package listen

import (
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var tries atomic.Int32
		a := NewAgain(func() { tries.Add(1) })
		for want := range int32(3) {
			time.Sleep(time.Second)
			synctest.Wait()
			if got := tries.Load(); got != want {
				t.Errorf("%d tries, want %d", got, want)
			}
			time.Sleep(Pause - time.Second)
			synctest.Wait()
		}
		a.Close()
		time.Sleep(10 * Pause)
		if got := tries.Load(); got != 3 {
			t.Errorf("%d tries, want none after Close", got)
		}
	})
}

// TestFaults: each place is told of once, and again after it could be listened at or was forgotten.
func TestFaults(t *testing.T) {
	taken := errors.New("address already in use")
	var f Faults[string]
	for i, step := range []struct {
		change    func() bool
		news, any bool
	}{
		{func() bool { return f.Note("a", nil) }, false, false},
		{func() bool { return f.Note("a", taken) }, true, true},
		{func() bool { return f.Note("a", taken) }, false, true},
		{func() bool { return f.Note("b", taken) }, true, true},
		{func() bool { return f.Note("a", nil) }, false, true},
		{func() bool { return f.Note("a", taken) }, true, true},
		{func() bool { f.Forget("a"); return f.Note("b", taken) }, false, true},
		{func() bool { return f.Note("a", taken) }, true, true},
		{func() bool { f.ForgetIf(func(at string) bool { return at == "b" }); return f.Note("a", taken) }, false, true},
		{func() bool { return f.Note("b", taken) }, true, true},
		{func() bool { f.Forget("a"); return f.Note("b", nil) }, false, false},
	} {
		if news := step.change(); news != step.news || f.Any() != step.any {
			t.Errorf("step %d: news %v, faults %v; want %v and %v", i, news, f.Any(), step.news, step.any)
		}
	}
}
