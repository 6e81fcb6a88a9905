// SPDX-License-Identifier: Apache-2.0

package proxier_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/nftproxy/nftproxy/proxier"
	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/rulestest"
)

// pair is two proxiers on one kernel: the first writes, the next one waits for its turn.
type pair struct {
	*node // the first
	next  *node
	turn  chan struct{}
	// touched is what the first one has changed since the next one asked.
	touched []rules.Thing
}

// startPair starts both, with the same objects, once the first has programmed these.
func startPair(t *testing.T, objects ...any) *pair {
	p := &pair{node: start(t, &rulestest.Kernel{}), turn: make(chan struct{})}
	p.lists(objects...)
	p.next = startWith(t, p.kernel, func(c *proxier.Config) {
		c.Foreign.Turn = p.turn
		c.Foreign.Touched = func() rules.Touched {
			out := rules.Touched{Things: p.touched}
			p.touched = nil
			return out
		}
	})
	p.kernel.Applied()
	p.next.lists(objects...)
	return p
}

// told tells the next one of what the first has written.
func (p *pair) told() (transactions int) {
	for _, tx := range p.kernel.Applied() {
		transactions++
		p.touched = append(p.touched, tx.Things()...)
	}
	if transactions > 0 {
		p.next.changed <- struct{}{}
		synctest.Wait()
	}
	return transactions
}

// takeOver ends the first one, and gives the next one its turn. It returns what that wrote.
func (p *pair) takeOver() []rules.Tx {
	p.stop()
	p.kernel.Applied()
	close(p.turn)
	synctest.Wait()
	return p.kernel.Applied()
}

// TestStandby: who waits for its turn writes nothing, listens nowhere and deletes no flows; then it writes what differs, and does
// the rest.
func TestStandby(t *testing.T) {
	web, slice := service("web", "10.96.0.1", "80"), endpoints("a", "web", "8080", "10.0.0.1")
	web.Spec.Type, web.Spec.Ports[0].NodePort = corev1.ServiceTypeNodePort, 30080
	for _, tt := range []struct {
		name   string
		change func(p *pair)
		want   string // of web, after the turn
		writes int    // operations: of its ClusterIP and its NodePort
	}{
		{"nothing", func(*pair) {}, "10.0.0.1:8080", 0},
		{"both hear of a change", func(p *pair) {
			for _, n := range []*node{p.node, p.next} {
				n.UpdateEndpointSlice(endpoints("a", "web", "8080", "10.0.0.2"))
				synctest.Wait()
			}
			if p.told() != 1 {
				p.t.Error("the first one wrote more than once")
			}
		}, "10.0.0.2:8080", 0},
		{"only the first hears of it", func(p *pair) {
			p.UpdateEndpointSlice(endpoints("a", "web", "8080", "10.0.0.2"))
			synctest.Wait()
			p.told()
		}, "10.0.0.1:8080", 2},
		{"only the next one hears of it", func(p *pair) {
			p.next.UpdateEndpointSlice(endpoints("a", "web", "8080", "10.0.0.2"))
			synctest.Wait()
			p.next.expect("10.96.0.1:80", "10.0.0.1:8080")
		}, "10.0.0.2:8080", 2},
		{"it can tell nothing", func(p *pair) {
			p.UpdateEndpointSlice(endpoints("a", "web", "8080", "10.0.0.2"))
			synctest.Wait()
			p.kernel.Applied()
			p.next.changed <- struct{}{} // without things
			synctest.Wait()
		}, "10.0.0.1:8080", 2},
		{"the kernel cannot be read for a while", func(p *pair) {
			p.kernel.FailReads(syscall.EIO)
			p.next.changed <- struct{}{}
			p.next.UpdateEndpointSlice(endpoints("a", "web", "8080", "10.0.0.2"))
			time.Sleep(2 * time.Second)
			p.next.changed <- struct{}{}
			synctest.Wait()
			p.kernel.FailReads(nil)
		}, "10.0.0.2:8080", 2},
		{"the tables are gone", func(p *pair) {
			p.kernel.Tamper(func(s *rules.State) { *s = rules.State{Name: s.Name} })
		}, "10.0.0.1:8080", -1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := startPair(t, web, slice)
				tt.change(p)
				if tx := p.kernel.Applied(); len(tx) != 0 {
					t.Errorf("%d transactions while it waits", len(tx))
				}
				select {
				case <-p.next.Prepared():
				default:
					t.Fatalf("it is not prepared:\n%s", p.next.log.String())
				}
				if len(p.next.ports) != 0 || len(p.next.cleaned) != 0 {
					t.Errorf("while it waits it listens at %v, and deleted %v", p.next.ports, p.next.cleaned)
				}
				n := 0
				for _, tx := range p.takeOver() {
					n += tx.Len()
				}
				if tt.writes >= 0 && n != tt.writes {
					t.Errorf("it wrote %d operations, want %d", n, tt.writes)
				}
				p.next.expect("10.96.0.1:80", tt.want)
				if len(p.next.ports) != 1 {
					t.Errorf("it listens at %v", p.next.ports)
				}
				select {
				case <-p.next.Synced():
				default:
					t.Error("it is not synced")
				}
				p.next.UpdateEndpointSlice(endpoints("a", "web", "8080", "10.0.0.7"))
				synctest.Wait()
				p.next.expect("10.96.0.1:80", "10.0.0.7:8080")
				p.next.stop()
			})
		})
	}
}

// TestStandbyRefused: what the kernel refuses at first, when the turn comes, is tried again.
func TestStandbyRefused(t *testing.T) {
	for _, err := range []error{syscall.EPERM, syscall.ENOMEM, syscall.EBUSY, errors.New("no answer")} {
		synctest.Test(t, func(t *testing.T) {
			p := startPair(t, service("web", "10.96.0.1", "80"), endpoints("a", "web", "8080", "10.0.0.1"))
			p.next.UpdateEndpointSlice(endpoints("a", "web", "8080", "10.0.0.2"))
			synctest.Wait()
			p.kernel.FailApplies(err)
			p.takeOver()
			p.next.UpdateService(service("late", "10.96.0.2", "80"))
			synctest.Wait()
			p.next.expect("10.96.0.1:80", "10.0.0.1:8080")
			p.kernel.FailApplies(nil)
			time.Sleep(time.Minute)
			synctest.Wait()
			p.next.expect("10.96.0.1:80", "10.0.0.2:8080")
			p.next.expect("10.96.0.2:80", "rejected")
			p.next.stop()
		})
	}
}

// TestStandbyRandomly: after any changes, of which each of the two has heard of some, the kernel holds what the next one wants,
// which writes no more than the difference.
func TestStandbyRandomly(t *testing.T) {
	for seed := range uint64(30) {
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 1))
			var objects []any
			for i := range 20 {
				objects = append(objects, service(fmt.Sprintf("s%d", i), fmt.Sprintf("10.96.0.%d", i+1), "80"), endpoints(fmt.Sprintf("e%d", i), fmt.Sprintf("s%d", i), "8080", "10.0.0.1"))
			}
			p := startPair(t, objects...)
			for range 200 {
				i, ends := r.IntN(20), strings.TrimSpace(strings.Repeat("10.0.0.1 ", r.IntN(2))+strings.Repeat(fmt.Sprintf("10.0.1.%d ", r.IntN(5)), r.IntN(2)))
				slice := endpoints(fmt.Sprintf("e%d", i), fmt.Sprintf("s%d", i), "8080", ends)
				heard := []*node{p.node, p.next}
				if r.IntN(5) == 0 {
					heard = heard[r.IntN(2):][:1]
				}
				for _, n := range heard {
					n.UpdateEndpointSlice(slice)
				}
				synctest.Wait()
				if r.IntN(3) == 0 {
					p.told()
				}
				time.Sleep(time.Duration(r.IntN(100)) * time.Millisecond)
			}
			p.told()
			before := p.kernel.State()
			txs := p.takeOver()
			after := p.kernel.State()
			p.next.stop()
			want := p.next.Snapshot().State
			want.Name = after.Name
			if diff := cmp.Diff(text(want), text(after)); diff != "" {
				t.Errorf("seed %d: the kernel does not hold what it should:\n%s", seed, diff)
			}
			least := rules.Diff(before, after)
			written := 0
			for _, tx := range txs {
				written += tx.Elements()
			}
			if written > least.Elements() {
				t.Errorf("seed %d: %d elements, want %d", seed, written, least.Elements())
			}
		})
	}
}

// TestStandbyMany: so many changes while it waits that they are compared again and again, and not kept in memory.
func TestStandbyMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := startPair(t, service("web", "10.96.0.1", "80"), endpoints("a", "web", "8080", "10.0.0.1"))
		var things []rules.Thing
		for i := range 100_000 {
			things = append(things, rules.Thing{Kind: rules.ThingChain, Name: fmt.Sprintf("chain%d", i)})
		}
		for list := range slices.Chunk(things, 200) {
			p.touched = list
			p.next.changed <- struct{}{}
			synctest.Wait()
		}
		p.next.expect("10.96.0.1:80", "10.0.0.1:8080")
		if txs := p.takeOver(); len(txs) != 0 {
			t.Errorf("it wrote %v", txs)
		}
		p.next.stop()
	})
}

// TestStandbyTampered: what others change after the first one's end, while the kernel cannot be read yet, is repaired.
func TestStandbyTampered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := startPair(t, service("web", "10.96.0.1", "80"), endpoints("a", "web", "8080", "10.0.0.1"))
		p.kernel.FailReads(syscall.ENOBUFS)
		p.takeOver()
		single := rules.SetID{Kind: rules.Single}
		p.kernel.Tamper(func(s *rules.State) { clear(s.Tables[rules.IPv4].Sets[single]) })
		p.touched = []rules.Thing{{Kind: rules.ThingSet, Family: rules.IPv4, Name: single.Name()}}
		p.next.changed <- struct{}{}
		synctest.Wait()
		p.kernel.FailReads(nil)
		time.Sleep(10 * time.Second) // before everything is compared
		synctest.Wait()
		p.next.expect("10.96.0.1:80", "10.0.0.1:8080")
		p.next.stop()
	})
}
