// SPDX-License-Identifier: Apache-2.0

package proxier_test

import (
	"fmt"
	"runtime"
	"testing"
	"testing/synctest"

	"github.com/nftproxy/nftproxy/proxier"
	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/rulestest"
)

// live returns how much of the heap is in use.
func live() int64 {
	runtime.GC()
	runtime.GC() // what had finalizers
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// sizeOf returns how much memory something takes that is made.
func sizeOf(made func() any) int64 {
	before := live()
	v := made()
	size := live() - before
	runtime.KeepAlive(v)
	return size
}

// crowd returns Services, each with some endpoints.
func crowd(services, endpointsEach int) (objects []any) {
	for i := range services {
		name, addrs := fmt.Sprintf("s%d", i), ""
		for j := range endpointsEach {
			addrs += fmt.Sprintf(" 10.%d.%d.%d", 1+i/200, i%200, j)
		}
		objects = append(objects, service(name, fmt.Sprintf("10.96.%d.%d", i/200, i%200), "80"), endpoints(name, name, "8080", addrs))
	}
	return objects
}

// weighingKernel notes how much memory is in use while it is read and changed.
type weighingKernel struct {
	*rulestest.Kernel
	weigh bool
	peak  int64
}

func (k *weighingKernel) note() {
	if k.weigh {
		k.peak = max(k.peak, live())
	}
}

func (k *weighingKernel) Scan(table string, things []rules.Thing, to rules.Parts) error {
	return k.Kernel.Scan(table, things, &weighedParts{Parts: to, kernel: k})
}

func (k *weighingKernel) Apply(tx rules.Tx) error {
	k.note()
	return k.Kernel.Apply(tx)
}

// weighedParts weighs after each large set.
type weighedParts struct {
	rules.Parts
	kernel *weighingKernel
}

func (w *weighedParts) Part(p rules.Part) {
	w.Parts.Part(p)
	if p.Table == nil {
		return
	}
	for _, set := range p.Table.Sets {
		if len(set) > 1000 {
			w.kernel.note()
		}
	}
}

// TestComparisonMemory: a comparison of everything holds no copy of what the kernel should hold.
func TestComparisonMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kernel := &weighingKernel{Kernel: &rulestest.Kernel{}}
		n := startWith(t, kernel.Kernel, func(c *proxier.Config) { c.Kernel = kernel })
		defer n.stop()
		n.lists(crowd(2000, 10)...)
		size := sizeOf(func() any { return kernel.State() })
		kernel.Tamper(func(s *rules.State) {
			delete(s.Tables[rules.IPv4].Sets[rules.SetID{Kind: rules.ServiceIPs}], frontend("10.96.0.0"))
		})
		before := live()
		kernel.weigh = true
		n.changed <- struct{}{}
		synctest.Wait()
		kernel.weigh = false
		t.Logf("a copy %d kB, a comparison %d kB", size>>10, (kernel.peak-before)>>10)
		if took := kernel.peak - before; kernel.peak == 0 || took > size/2 {
			t.Errorf("a comparison takes %d kB, a copy of the tables %d kB", took>>10, size>>10)
		}
		n.expect("10.96.0.0:80", "10.1.0.0:8080 10.1.0.1:8080 10.1.0.2:8080 10.1.0.3:8080 10.1.0.4:8080 10.1.0.5:8080 10.1.0.6:8080 10.1.0.7:8080 10.1.0.8:8080 10.1.0.9:8080")
	})
}
