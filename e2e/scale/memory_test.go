// SPDX-License-Identifier: Apache-2.0

//go:build linux

package scale

import (
	"os"
	"runtime"
	"runtime/pprof"
	"testing"
)

// BenchmarkMemory prints how much memory stays in use once a cluster is loaded, less the
// objects themselves, which a source does not keep. With HEAP_PROFILE=FILE it writes a
// profile of that.
func BenchmarkMemory(b *testing.B) {
	for _, s := range []size{large, {45000, 1}} {
		b.Run(s.String(), func(b *testing.B) {
			for b.Loop() {
				before := inUse()
				n := newNode(b)
				n.load(s)
				b.ReportMetric(float64(inUse()-before)/(1<<20), "heap-MB")
				if file := os.Getenv("HEAP_PROFILE"); file != "" {
					f, err := os.Create(file)
					if err != nil {
						b.Fatal(err)
					}
					if err := pprof.WriteHeapProfile(f); err != nil {
						b.Fatal(err)
					}
					_ = f.Close()
				}
				n.close()
			}
		})
	}
}

func inUse() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
