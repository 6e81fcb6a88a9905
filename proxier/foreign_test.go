// SPDX-License-Identifier: Apache-2.0

package proxier_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nftproxy/nftproxy/proxier"
	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/rulestest"
)

// TestForeignLoop: a program takes an element away 300 times a second. Changes of Services are programmed at once meanwhile, and
// the log names the program, in few lines. What repairs may take says TestRepairsShare.
func TestForeignLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kernel := &rulestest.Kernel{}
		single := rules.SetID{Kind: rules.Single}
		thing := rules.Thing{Kind: rules.ThingElement, Name: single.Name(), Key: frontend("10.96.0.2")}
		n := startWith(t, kernel, func(c *proxier.Config) {
			c.Foreign.Touched = func() rules.Touched {
				return rules.Touched{Things: []rules.Thing{thing}, By: []rules.Process{{PID: 4711, Name: "evil\n"}}}
			}
		})
		defer n.stop()
		n.lists(service("web", "10.96.0.1", "80"), endpoints("a", "web", "8080", "10.0.0.1"),
			service("other", "10.96.0.2", "80"), endpoints("b", "other", "8080", "10.0.0.7"))
		kernel.Applied()
		repairs, lost := 0, 0
		for i := range 300 * 60 {
			kernel.Tamper(func(s *rules.State) {
				set := s.Tables[rules.IPv4].Sets[single]
				if _, ok := set[thing.Key]; ok {
					lost++
				}
				delete(set, thing.Key)
			})
			select {
			case n.changed <- struct{}{}:
			default:
			}
			if i%300 == 0 {
				to := fmt.Sprintf("10.0.0.%d", 2+i/300%2)
				n.UpdateEndpointSlice(endpoints("a", "web", "8080", to))
				synctest.Wait()
				n.expect("10.96.0.1:80", to+":8080")
			}
			for _, tx := range kernel.Applied() {
				for _, op := range tx.Ops() {
					if op.Set == single && op.Kind == rules.AddElements {
						repairs++
					}
				}
			}
			time.Sleep(time.Second / 300)
		}
		if repairs < 100 || lost > repairs+1 { // how many depends on how much CPU time one takes
			t.Errorf("%d repairs in a minute of what was lost %d times", repairs, lost)
		}
		log := n.log.String()
		if lines := strings.Count(log, "Repaired the kernel's tables"); lines < 1 || lines > 3 {
			t.Errorf("%d lines:\n%s", lines, log)
		}
		for _, want := range []string{"element of ip nftproxy single: 10.96.0.2 . tcp . 80", "4711", "again"} {
			if !strings.Contains(log, want) {
				t.Errorf("the log does not have %q:\n%s", want, log)
			}
		}
		if strings.Contains(log, "evil\n") {
			t.Error("the program's name is in the log as it is")
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		n.expect("10.96.0.2:80", "10.0.0.7:8080")
	})
}

// TestReasons: the log says why each repair was made, not why an earlier one was.
func TestReasons(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := start(t, &rulestest.Kernel{})
		defer n.stop()
		n.lists(service("web", "10.96.0.1", "80"), endpoints("a", "web", "8080", "10.0.0.1"))
		spoil := func() {
			n.kernel.Tamper(func(s *rules.State) { clear(s.Tables[rules.IPv4].Sets[rules.SetID{Kind: rules.Single}]) })
		}
		reasons := func() (out []string) {
			synctest.Wait()
			for line := range strings.Lines(n.log.String()) {
				if strings.Contains(line, "Repaired") {
					_, reason, _ := strings.Cut(line, `"reason"="`)
					reason, _, _ = strings.Cut(reason, `"`)
					out = append(out, reason)
				}
			}
			return out
		}
		spoil()
		n.changed <- struct{}{}
		synctest.Wait()
		n.kernel.FailReads(fmt.Errorf("none today"))
		n.changed <- struct{}{}
		time.Sleep(2 * time.Second)
		spoil()
		n.kernel.FailReads(nil)
		time.Sleep(2 * time.Minute) // what was written last is read back
		synctest.Wait()
		spoil()
		time.Sleep(20 * time.Minute)
		want := "[the tables were changed by another program an earlier comparison failed period]"
		if got := fmt.Sprint(reasons()); got != want {
			t.Errorf("reasons %s, want %s", got, want)
		}
	})
}
