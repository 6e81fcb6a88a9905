// SPDX-License-Identifier: Apache-2.0

package proxier

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nftproxy/nftproxy/rules"
)

// clockwork plays a day with repairs: what it is told to touch, and when things were repaired. Each repair takes some time.
type clockwork struct {
	*repairs
	start    time.Time
	took     time.Duration
	repaired map[rules.Thing][]time.Duration
	runs     int
}

func newClockwork(took time.Duration) *clockwork {
	return &clockwork{repairs: newRepairs(), start: time.Now(), took: took, repaired: map[rules.Thing][]time.Duration{}}
}

// run repairs what is due until a time, and touches things every so often until another.
func (c *clockwork) run(until, touched, every time.Duration, things func(i int) []rules.Thing) {
	for i := 0; time.Since(c.start) < until; i++ {
		if time.Since(c.start) < touched {
			c.touch(time.Now(), rules.Touched{Things: things(i)})
		}
		if d, ok := c.wait(time.Now()); ok && d == 0 {
			c.runs++
			what := c.take(time.Now())
			for _, t := range what.Things {
				c.repaired[t] = append(c.repaired[t], time.Since(c.start))
			}
			time.Sleep(c.took)
			c.done(time.Now(), what.Things, c.took)
		}
		time.Sleep(every)
	}
}

// share is which part of the time was taken by repairs.
func (c *clockwork) share() float64 {
	return float64(c.runs) * float64(c.took) / float64(time.Since(c.start))
}

var thing = rules.Thing{Kind: rules.ThingChain, Name: "services"}

// TestRepairsShare: what is changed all the time is repaired at once, and then as often as a small part of a CPU's time
// allows, however long one repair takes; but once a minute at least.
func TestRepairsShare(t *testing.T) {
	for _, tt := range []struct {
		took time.Duration
		runs int // in 10 minutes
	}{{0, 10 * 60 * 300}, {time.Millisecond, 10 * 60 * 1000 / 44}, {20 * time.Millisecond, 10 * 60 * 1000 / 824}, {time.Second, 15}, {3 * time.Second, 9}} {
		t.Run(tt.took.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newClockwork(tt.took)
				const every = time.Second / 300
				c.run(10*time.Minute, 10*time.Minute, every, func(int) []rules.Thing { return []rules.Thing{thing} })
				if first := c.repaired[thing][0]; first != 0 {
					t.Errorf("first repaired after %v", first)
				}
				if c.runs < tt.runs*9/10 || c.runs > tt.runs*11/10+1 {
					t.Errorf("%d repairs in 10 minutes, want some %d", c.runs, tt.runs)
				}
				if part := c.share(); part > allShare && tt.took < lastRepairWait/40 {
					t.Errorf("repairs take %.1f %% of the time", 100*part)
				}
				time.Sleep(2 * time.Minute)
				c.start, c.repaired = time.Now(), map[rules.Thing][]time.Duration{}
				c.run(time.Second, time.Millisecond, every, func(int) []rules.Thing { return []rules.Thing{thing} })
				if got := fmt.Sprint(c.repaired[thing]); got != "[0s]" {
					t.Errorf("after some quiet repaired at %s", got)
				}
			})
		})
	}
}

// TestRepairsApart: what is changed once does not wait for what is changed all the time.
func TestRepairsApart(t *testing.T) {
	for _, took := range []time.Duration{time.Millisecond, 20 * time.Millisecond, 200 * time.Millisecond} {
		synctest.Test(t, func(t *testing.T) {
			c := newClockwork(took)
			other := rules.Thing{Kind: rules.ThingChain, Name: "output"}
			var touched time.Duration
			c.run(time.Minute, time.Minute, 10*time.Millisecond, func(int) []rules.Thing {
				if touched == 0 && time.Since(c.start) > 40*time.Second {
					touched = time.Since(c.start)
					return []rules.Thing{thing, other}
				}
				return []rules.Thing{thing}
			})
			if got := c.repaired[other]; len(got) != 1 || got[0]-touched > took {
				t.Errorf("touched after %v, the other was repaired at %v, want at once", touched, got)
			}
		})
	}
}

// TestRepairsPace: other things without end take no more of a CPU's time, and not all of them are remembered.
func TestRepairsPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClockwork(2 * time.Millisecond)
		c.run(5*time.Minute, 5*time.Minute, time.Millisecond, func(i int) []rules.Thing {
			return []rules.Thing{{Kind: rules.ThingChain, Name: fmt.Sprint(i)}}
		})
		if part := c.share(); part < allShare/2 || part > allShare*1.1 {
			t.Errorf("repairs take %.1f %% of the time", 100*part)
		}
		if len(c.things) > mostRepairing+1 {
			t.Errorf("%d things remembered", len(c.things))
		}
	})
}

// TestRepairsTell: a few lines tell of repairs without end, and how many they leave out.
func TestRepairsTell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRepairs()
		lines, told := 0, 0
		for range 3600 {
			r.touch(time.Now(), rules.Touched{Things: []rules.Thing{thing}})
			r.done(time.Now(), r.take(time.Now()).Things, 10*time.Millisecond)
			if tell, untold := r.told(time.Now(), []rules.Thing{thing}); tell {
				lines++
				told += 1 + untold
			}
			time.Sleep(time.Second)
		}
		if lines < 2 || lines > 9 {
			t.Errorf("%d lines in an hour", lines)
		}
		if told+r.untold != 3600 {
			t.Errorf("the lines tell of %d repairs", told)
		}
	})
}

// TestProcesses: what a process calls itself cannot forge lines of the log.
func TestProcesses(t *testing.T) {
	got := processes([]rules.Process{{PID: 7, Name: "nft"}, {PID: 8, Name: "\n\x1b[2J\" (pid 9)"}})
	if want := `nft (pid 7), \n\x1b[2J"\x20(pid\x209) (pid 8)`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := processes(nil); strings.Contains(got, "(") {
		t.Errorf("nobody is %s", got)
	}
}
