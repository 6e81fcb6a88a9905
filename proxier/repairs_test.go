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

// clockwork plays a day with repairs: what it is told to touch, and when things were repaired.
type clockwork struct {
	*repairs
	start    time.Time
	repaired map[rules.Thing][]time.Duration
	runs     int
}

func newClockwork() *clockwork {
	return &clockwork{repairs: newRepairs(), start: time.Now(), repaired: map[rules.Thing][]time.Duration{}}
}

// run repairs what is due until a time, and touches things every so often until another.
func (c *clockwork) run(until, touched, every time.Duration, things func(i int) []rules.Thing) {
	for i := 0; time.Since(c.start) < until; i++ {
		if time.Since(c.start) < touched {
			c.touch(time.Now(), rules.Touched{Things: things(i)})
		}
		if d, ok := c.wait(time.Now()); ok && d == 0 {
			c.runs++
			for _, t := range c.take(time.Now()).Things {
				c.repaired[t] = append(c.repaired[t], time.Since(c.start).Round(time.Second))
			}
		}
		time.Sleep(every)
	}
}

var thing = rules.Thing{Kind: rules.ThingChain, Name: "services"}

// TestRepairsBackOff: what is changed 300 times a second is repaired at once, then after 1, 2, 4 s and so on, up to 1
// min; after some quiet at once again.
func TestRepairsBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClockwork()
		const every = time.Second / 300
		same := func(int) []rules.Thing { return []rules.Thing{thing} }
		c.run(5*time.Minute, 4*time.Minute, every, same)
		if got, want := fmt.Sprint(c.repaired[thing]), "[0s 1s 3s 7s 15s 31s 1m3s 2m3s 3m3s 4m3s]"; got != want {
			t.Errorf("repaired at %s, want %s", got, want)
		}
		time.Sleep(3 * time.Minute)
		c.start, c.repaired = time.Now(), map[rules.Thing][]time.Duration{}
		c.run(2*time.Second, time.Second, every, same)
		if got := fmt.Sprint(c.repaired[thing]); got != "[0s 1s]" {
			t.Errorf("after some quiet repaired at %s", got)
		}
	})
}

// TestRepairsApart: what is changed once does not wait for what is changed all the time.
func TestRepairsApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClockwork()
		other := rules.Thing{Kind: rules.ThingChain, Name: "output"}
		c.run(time.Minute, time.Minute, 10*time.Millisecond, func(i int) []rules.Thing {
			if i == 2000 {
				return []rules.Thing{thing, other}
			}
			return []rules.Thing{thing}
		})
		if got := fmt.Sprint(c.repaired[other]); got != "[20s]" {
			t.Errorf("the other was repaired at %s, want at once", got)
		}
	})
}

// TestRepairsPace: other things without end are repaired once a second at most, and not all of them remembered.
func TestRepairsPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClockwork()
		c.run(time.Minute, time.Minute, time.Millisecond, func(i int) []rules.Thing {
			return []rules.Thing{{Kind: rules.ThingChain, Name: fmt.Sprint(i)}}
		})
		if c.runs < 10 || c.runs > repairBurst+61 {
			t.Errorf("%d repairs in a minute", c.runs)
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
			r.take(time.Now())
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
