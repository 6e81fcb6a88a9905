// SPDX-License-Identifier: Apache-2.0

//go:build linux

package faults

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/proxy"
)

const clockRow = "stopped, and clock jumps"

// soon is how long the kernel may be wrong after these faults.
const soon = 2 * time.Second

// TestStopped stops nftproxy for a while in which Services change.
func TestStopped(t *testing.T) {
	long := Amount(time.Second, 10*time.Second, time.Minute)
	w := newWorld(t)
	w.put(0, w.pod(0), w.pod(2))
	w.put(1, w.pod(1))
	w.start()
	l := w.load(0, 1)
	w.signal(syscall.SIGSTOP)
	for begin, i := time.Now(), 0; time.Since(begin) < long; i++ {
		w.put(1, w.pod(i))
		w.put(2+i%50, w.pod(i))
		time.Sleep(100 * time.Millisecond)
	}
	w.put(1, w.pod(2))
	w.signal(syscall.SIGCONT)
	begin := time.Now()
	w.programmed()
	right := time.Since(begin)
	w.must(l.GoOn(w.patient(), 100))
	counts := l.End()
	w.equal()
	if right > soon && timed() {
		t.Errorf("right after %v", right)
	}
	Record(t, Result{Row: clockRow, Fault: fmt.Sprintf("SIGSTOP for %v, with changes meanwhile", long), Counts: counts, Right: right})
}

// TestClock lets nftproxy's clock jump. The machine's own clock is not touched: nftproxy is built with a package time
// whose wall clock is off by as much as a file says.
func TestClock(t *testing.T) {
	if Amount(true, false, false) {
		t.Skip("it builds nftproxy anew, with a clock of its own: " + AmountEnv + "=part does")
	}
	program, offset := clockedProgram(t), filepath.Join(t.TempDir(), "offset")
	w := newWorld(t)
	w.put(0, w.pod(0), w.pod(2))
	w.put(1, w.pod(1))
	config := w.process(w.args...)
	config.Program, config.Env = program, []string{"NFTPROXY_TEST_CLOCK=" + offset}
	set := func(d time.Duration) {
		t.Helper()
		w.must(os.WriteFile(offset+".new", []byte(d.String()), 0o644))
		w.must(os.Rename(offset+".new", offset))
		w.must(w.nftproxy.WaitLog(w.patient(), fmt.Sprintf("the clock is off by %v\n", d)))
	}
	var err error
	w.nftproxy, err = proxy.Start(config)
	w.must(err)
	w.must(w.nftproxy.WaitSynced(w.patient()))
	l := w.load(0, 1)
	var right time.Duration
	jumps := []time.Duration{time.Hour, 0, -time.Hour, 0, 30 * 24 * time.Hour, -10 * 365 * 24 * time.Hour, time.Second, 0}
	for i, d := range jumps {
		set(d)
		begin := time.Now()
		w.put(1, w.pod(i))
		w.programmed()
		right = max(right, time.Since(begin))
		want := w.state()
		w.must(w.nft("flush ruleset"))
		if took, err := w.right(want, netns.Patience()); err != nil {
			t.Errorf("after a jump to %v: %v", d, err)
		} else {
			right = max(right, took)
		}
		w.must(l.GoOn(w.patient(), 30))
	}
	counts := l.End()
	w.equal()
	if right > soon && timed() {
		t.Errorf("right after %v", right)
	}
	Record(t, Result{Row: clockRow, Fault: fmt.Sprintf("%d jumps of its clock, by an hour, a month and ten years, forth and back, each with a change and a flush of the ruleset", len(jumps)),
		Counts: counts, Right: right})
}

// clockedProgram builds nftproxy with a wall clock that can be put forward and back. What measures time with the monotonic
// clock does not notice, as when somebody sets the machine's clock.
func clockedProgram(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	run := func(name string, args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), name, args...)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
		}
		return strings.TrimSpace(string(out))
	}
	source := filepath.Join(run("go", "env", "GOROOT"), "src/time/time.go")
	text, err := os.ReadFile(source)
	if err != nil {
		t.Fatal(err)
	}
	changed := string(text) + "\n// TestOffset is by how many seconds the wall clock is off.\nvar TestOffset atomic.Int64\n"
	for _, change := range [][2]string{
		{"\nimport (\n", "\nimport (\n\t\"sync/atomic\"\n"},
		{"\tsec, nsec, mono := runtimeNow()\n", "\tsec, nsec, mono := runtimeNow()\n\tsec += TestOffset.Load()\n"},
	} {
		if !strings.Contains(changed, change[0]) {
			t.Fatalf("%s is not as it was: it has no %q", source, change[0])
		}
		changed = strings.Replace(changed, change[0], change[1], 1)
	}
	overlay, file := filepath.Join(dir, "overlay.json"), filepath.Join(dir, "time.go")
	if err := os.WriteFile(file, []byte(changed), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(overlay, fmt.Appendf(nil, `{"Replace":{%q:%q}}`, source, file), 0o644); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "nftproxy")
	run("go", "build", "-overlay", overlay, "-tags", "testclock", "-o", program, "./clocked")
	return program
}
