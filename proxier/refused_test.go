// SPDX-License-Identifier: Apache-2.0

package proxier_test

import (
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/proxier"
	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/rulestest"
)

// countingKernel counts what is read as a whole, and may refuse everything.
type countingKernel struct {
	*rulestest.Kernel
	mu      sync.Mutex // guards what follows
	whole   int
	refusal error
	times   int    // of refusals; 0: no end
	spoil   func() // after each reading
}

func (k *countingKernel) count() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.whole++
}

// wholes returns how often everything was read.
func (k *countingKernel) wholes() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.whole
}

// trouble sets what becomes of commits and readings.
func (k *countingKernel) trouble(refusal error, spoil func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.refusal, k.spoil, k.times = refusal, spoil, 0
}

// refuseNext refuses the next commits, so many.
func (k *countingKernel) refuseNext(times int, refusal error) {
	if times > 0 {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.refusal, k.times = refusal, times
	}
}

// refuses returns why a commit is refused.
func (k *countingKernel) refuses() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	refusal := k.refusal
	if k.times > 0 {
		if k.times--; k.times == 0 {
			k.refusal = nil
		}
	}
	return refusal
}

func (k *countingKernel) troubles() (spoil func(), refusal error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.spoil, k.refusal
}

func (k *countingKernel) Read(table string) (rules.State, error) {
	k.count()
	return k.Kernel.Read(table)
}

func (k *countingKernel) Scan(table string, things []rules.Thing, to rules.Parts) error {
	if rules.All(things) {
		k.count()
	}
	err := k.Kernel.Scan(table, things, to)
	if spoil, _ := k.troubles(); spoil != nil {
		spoil()
	}
	return err
}

func (k *countingKernel) Apply(tx rules.Tx) error {
	if refusal := k.refuses(); refusal != nil {
		return refusal
	}
	return k.Kernel.Apply(tx)
}

// TestForeignBeforeCommits: a program that makes the kernel refuse each commit does not make nftproxy read everything each time.
// Changes are programmed at once all the same, where the program has not changed them again.
func TestForeignBeforeCommits(t *testing.T) {
	single := rules.SetID{Kind: rules.Single}
	for name, spoil := range map[string]func(*countingKernel){
		"what is changed has gone": func(k *countingKernel) {
			k.Tamper(func(s *rules.State) { delete(s.Tables[rules.IPv4].Sets[single], frontend("10.96.0.1")) })
		},
		"what is changed goes and comes": func(k *countingKernel) {
			var n atomic.Int32
			flip := func() {
				n.Add(1)
				k.Tamper(func(s *rules.State) {
					set, odd := s.Tables[rules.IPv4].Sets[single], frontend("10.96.0.1")
					if _, ok := set[odd]; ok {
						delete(set, odd)
					} else {
						set[odd] = rules.Value{To: netip.MustParseAddrPort("10.0.0.66:1")}
					}
				})
			}
			flip()
			k.trouble(nil, func() {
				if n.Load() < 50 {
					flip()
				}
			})
		},
		"all is as it should be": func(k *countingKernel) {
			k.trouble(fmt.Errorf("refused for nothing: %w", unix.ENOENT), nil)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				kernel := &countingKernel{Kernel: &rulestest.Kernel{}}
				n := startWith(t, kernel.Kernel, func(c *proxier.Config) { c.Kernel = kernel })
				defer n.stop()
				n.lists(service("web", "10.96.0.1", "80"), endpoints("a", "web", "8080", "10.0.0.1"))
				before := kernel.wholes()
				for i := range 60 * 20 {
					spoil(kernel)
					to := fmt.Sprintf("10.0.0.%d", 2+i%2)
					n.UpdateEndpointSlice(endpoints("a", "web", "8080", to))
					synctest.Wait()
					if again, refusal := kernel.troubles(); refusal == nil && again == nil {
						n.expect("10.96.0.1:80", to+":8080")
					}
					time.Sleep(time.Second / 20)
				}
				most := 12
				if again, _ := kernel.troubles(); again != nil { // audits, with their own backoff, fail at first, and each reads several times
					most = 200
				}
				if read := kernel.wholes() - before; read > most {
					t.Errorf("all was read %d times in a minute", read)
				}
				if lines := strings.Count(n.log.String(), "The kernel refused a transaction"); lines < 2 || lines > 12 {
					t.Errorf("%d lines in a minute", lines)
				}
				kernel.trouble(nil, nil)
				time.Sleep(10 * time.Minute)
				synctest.Wait()
				n.expect("10.96.0.1:80", "10.0.0.3:8080")
			})
		})
	}
}

// TestRefusedOnce: what the kernel refuses for nothing, as it does not find what it has, is sent again at once. What it refuses
// again waits.
func TestRefusedOnce(t *testing.T) {
	for times, at := range []string{"10.0.0.2:8080", "10.0.0.2:8080", "10.0.0.1:8080"} {
		synctest.Test(t, func(t *testing.T) {
			kernel := &countingKernel{Kernel: &rulestest.Kernel{}}
			n := startWith(t, kernel.Kernel, func(c *proxier.Config) { c.Kernel = kernel })
			defer n.stop()
			n.lists(service("web", "10.96.0.1", "80"), endpoints("a", "web", "8080", "10.0.0.1"))
			kernel.refuseNext(times, &rules.Refusal{Err: unix.ENOENT, Untouched: true})
			n.UpdateEndpointSlice(endpoints("a", "web", "8080", "10.0.0.2"))
			synctest.Wait()
			n.expect("10.96.0.1:80", at)
			time.Sleep(time.Second)
			synctest.Wait()
			n.expect("10.96.0.1:80", "10.0.0.2:8080")
		})
	}
}

// TestFreeReadsLittle: what is freed for an API server at the start is looked for by its key.
func TestFreeReadsLittle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kernel := &countingKernel{Kernel: &rulestest.Kernel{}}
		n := startWith(t, kernel.Kernel, func(*proxier.Config) {})
		n.lists(service("web", "10.96.0.1", "80"), endpoints("a", "web", "8080", "10.0.0.1"))
		n.stop()
		p := proxier.New(proxier.Config{Kernel: kernel})
		p.SetAPIServers(ports("10.0.0.9:6443", "[fd00::9]:6443"))
		if err := p.FreeAPIServers(); err != nil || kernel.wholes() > 0 {
			t.Errorf("%d readings of everything, %v", kernel.wholes(), err)
		}
	})
}
