// SPDX-License-Identifier: Apache-2.0

package proxier_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/proxier"
	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/rulestest"
)

// unreliableKernel carries transactions out otherwise than it says.
type unreliableKernel struct {
	*rulestest.Kernel
	mu    sync.Mutex // guards what follows
	after func(before rules.State, s *rules.State)
	times int
	reads int // elements
}

// unreliable makes as many of the next transactions have fn done to their outcome.
func (k *unreliableKernel) unreliable(times int, fn func(before rules.State, s *rules.State)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.times, k.after = times, fn
}

func (k *unreliableKernel) Apply(tx rules.Tx) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	before := k.State()
	err := k.Kernel.Apply(tx)
	if err == nil && k.times > 0 {
		k.times--
		k.Tamper(func(s *rules.State) { k.after(before, s) })
	}
	return err
}

func (k *unreliableKernel) Scan(table string, things []rules.Thing, to rules.Parts) error {
	k.mu.Lock()
	k.reads += len(things)
	k.mu.Unlock()
	return k.Kernel.Scan(table, things, to)
}

// TestReadBack: a kernel that keeps an element which it was told to delete or to replace, or does not add one, and says nothing, has
// it right within 3 seconds; or 3 seconds after it carries out what it is told.
func TestReadBack(t *testing.T) {
	single := rules.SetID{Kind: rules.Single}
	keep := func(before rules.State, s *rules.State) {
		for k, v := range before.Tables[rules.IPv4].Sets[single] {
			s.Tables[rules.IPv4].Sets[single][k] = v
		}
	}
	lose := func(before rules.State, s *rules.State) {
		for k := range s.Tables[rules.IPv4].Sets[single] {
			if _, ok := before.Tables[rules.IPv4].Sets[single][k]; !ok {
				delete(s.Tables[rules.IPv4].Sets[single], k)
			}
		}
	}
	for name, tt := range map[string]struct {
		wrong  func(before rules.State, s *rules.State)
		change func(*node)
		spoilt string
		want   string
	}{
		"replaced": {keep, func(n *node) { n.UpdateEndpointSlice(endpoints("a", "web", "8080", "10.0.0.2")) }, "10.0.0.1:8080", "10.0.0.2:8080"},
		"deleted":  {keep, func(n *node) { n.UpdateEndpointSlice(endpoints("a", "web", "8080", "")) }, "10.0.0.1:8080", "rejected"},
		"added": {lose, func(n *node) {
			n.UpdateService(service("new", "10.96.0.3", "80"))
			n.UpdateEndpointSlice(endpoints("c", "new", "8080", "10.0.0.3"))
		}, "10.0.0.1:8080", "10.0.0.1:8080"},
	} {
		for _, times := range []int{1, 3} {
			t.Run(fmt.Sprint(name, times), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					kernel := &unreliableKernel{Kernel: &rulestest.Kernel{}}
					n := startWith(t, kernel.Kernel, func(c *proxier.Config) { c.Kernel = kernel })
					defer n.stop()
					n.lists(service("web", "10.96.0.1", "80"), endpoints("a", "web", "8080", "10.0.0.1"),
						service("other", "10.96.0.2", "80"), endpoints("b", "other", "8080", "10.0.0.7"))
					time.Sleep(time.Hour + time.Second) // not just before the comparison of everything
					kernel.unreliable(times, tt.wrong)
					tt.change(n)
					synctest.Wait()
					n.expect("10.96.0.1:80", tt.spoilt)
					time.Sleep(time.Duration(3*times) * time.Second)
					synctest.Wait()
					n.expect("10.96.0.1:80", tt.want)
					if name == "added" {
						n.expect("10.96.0.3:80", "10.0.0.3:8080")
					}
					if log := n.log.String(); !strings.Contains(log, "the kernel does not hold what was written") {
						t.Errorf("the log does not say why it was repaired:\n%s", log)
					}
				})
			})
		}
	}
}

// TestReadBackMuch: what is more than can be remembered is compared when nothing was written for a minute.
func TestReadBackMuch(t *testing.T) {
	for _, churning := range []bool{false, true} {
		t.Run(fmt.Sprint("changes go on: ", churning), func(t *testing.T) { readBackMuch(t, churning) })
	}
}

func readBackMuch(t *testing.T, churning bool) {
	single := rules.SetID{Kind: rules.Single}
	synctest.Test(t, func(t *testing.T) {
		kernel := &unreliableKernel{Kernel: &rulestest.Kernel{}}
		n := startWith(t, kernel.Kernel, func(c *proxier.Config) { c.Kernel = kernel })
		defer n.stop()
		var objects []any
		for i := range 400 { // each with a chain
			name := fmt.Sprint("s", i)
			objects = append(objects, service(name, fmt.Sprintf("10.96.%d.%d", i/200, 1+i%200), "80"), endpoints(name, name, "8080", "10.0.0.1 10.0.0.2"))
		}
		objects = append(objects, service("lost", "10.97.0.1", "80"), endpoints("lost", "lost", "8080", "10.0.0.1"))
		kernel.unreliable(100, func(_ rules.State, s *rules.State) {
			if t := s.Tables[rules.IPv4]; t != nil {
				delete(t.Sets[single], frontend("10.97.0.1"))
			}
		})
		n.lists(objects...)
		kernel.unreliable(0, nil)
		if !churning {
			time.Sleep(62 * time.Second)
		}
		for i := range 21 {
			if churning { // it is never quiet
				time.Sleep(30 * time.Second)
				n.UpdateEndpointSlice(endpoints("s1", "s1", "8080", fmt.Sprint("10.0.1.", 1+i)))
			}
		}
		synctest.Wait()
		n.expect("10.97.0.1:80", "10.0.0.1:8080")
	})
}

// TestRefusedForNothing: a kernel that says ENOENT or EEXIST of a change that it then takes has it within a second or two, and no
// Service waits for another.
func TestRefusedForNothing(t *testing.T) {
	for _, errno := range []unix.Errno{unix.ENOENT, unix.EEXIST} {
		for times := 1; times <= 4; times++ {
			t.Run(fmt.Sprint(errno, times), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					kernel := &countingKernel{Kernel: &rulestest.Kernel{}}
					n := startWith(t, kernel.Kernel, func(c *proxier.Config) { c.Kernel = kernel })
					defer n.stop()
					n.lists(service("web", "10.96.0.1", "80"), endpoints("a", "web", "8080", "10.0.0.1"),
						service("other", "10.96.0.2", "80"), endpoints("b", "other", "8080", "10.0.0.7"))
					time.Sleep(time.Hour + time.Second)
					kernel.refuseNext(times, &rules.Refusal{Untouched: true, Err: errno})
					n.UpdateEndpointSlice(endpoints("a", "web", "8080", "10.0.0.2"))
					time.Sleep(2 * time.Second)
					synctest.Wait()
					n.expect("10.96.0.1:80", "10.0.0.2:8080")
					n.expect("10.96.0.2:80", "10.0.0.7:8080")
				})
			})
		}
	}
}

// hiddenKernel has an element that it lists and does not find, until the next commit.
type hiddenKernel struct {
	*rulestest.Kernel
	mu     sync.Mutex // guards hidden
	hidden bool
}

var errHidden = &rules.Refusal{Untouched: true, Err: unix.ENOENT}

func (k *hiddenKernel) Apply(tx rules.Tx) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, op := range tx.Ops() {
		if k.hidden && op.Set.Kind == rules.Single && op.Kind != rules.AddElements {
			return errHidden
		}
	}
	err := k.Kernel.Apply(tx)
	k.hidden = k.hidden && err != nil
	return err
}

func (k *hiddenKernel) hide() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.hidden = true
}

// TestHiddenElement: a kernel that refuses to delete what it lists does so for one Service only, and is right 3 seconds after it
// finds it.
func TestHiddenElement(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kernel := &hiddenKernel{Kernel: &rulestest.Kernel{}}
		n := startWith(t, kernel.Kernel, func(c *proxier.Config) { c.Kernel = kernel })
		defer n.stop()
		n.lists(service("web", "10.96.0.1", "80"), endpoints("a", "web", "8080", "10.0.0.1"))
		time.Sleep(time.Hour + time.Second)
		kernel.hide()
		n.UpdateEndpointSlice(endpoints("a", "web", "8080", "10.0.0.2"))
		time.Sleep(time.Second)
		n.UpdateService(service("other", "10.96.0.2", "80"))
		synctest.Wait()
		n.expect("10.96.0.2:80", "rejected")
		time.Sleep(3 * time.Second)
		synctest.Wait()
		n.expect("10.96.0.1:80", "10.0.0.2:8080")
	})
}
