// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/nftproxy/nftproxy/rules"
)

// Most benchmarks are about clusters of this many services, of ten endpoints each.
const (
	benchServices  = 10000
	benchEndpoints = 10
)

// benchInput is what a service port is built from.
type benchInput struct {
	port      rules.ServicePort
	endpoints []rules.Endpoint
}

// benchService returns the i-th service, with the endpoints of these numbers.
func benchService(i int, numbers ...int) benchInput {
	in := benchInput{port: rules.ServicePort{
		Name:     rules.ServicePortName{Namespace: "default", Name: fmt.Sprintf("web-%d", i), Port: "http"},
		Protocol: rules.TCP, ClusterIP: address(rules.IPv4, 96, i), Port: 80,
	}}
	for _, n := range numbers {
		in.endpoints = append(in.endpoints, rules.Endpoint{
			Addr: netip.AddrPortFrom(address(rules.IPv4, 128, 16*i+n), 8080), Ready: true})
	}
	return in
}

func (in benchInput) build() rules.Owned {
	return rules.Owned{Owner: rules.Owner{ServicePortName: in.port.Name}, Objects: rules.Build(in.port, in.endpoints, rules.Config{}.WithDefaults(), rules.Node{})}
}

// numbers counts from one number on up to another.
func numbers(from, to int) []int {
	var out []int
	for ; from < to; from++ {
		out = append(out, from)
	}
	return out
}

func benchInputs(n int) []benchInput {
	out := make([]benchInput, n)
	for i := range out {
		out[i] = benchService(i, numbers(0, benchEndpoints)...)
	}
	return out
}

func buildAll(inputs []benchInput) []rules.Owned {
	out := make([]rules.Owned, len(inputs))
	for i, in := range inputs {
		out[i] = in.build()
	}
	return out
}

// eachSize runs a benchmark for clusters of two sizes.
func eachSize(b *testing.B, run func(b *testing.B, services int)) {
	for _, n := range []int{benchServices / 10, benchServices} {
		b.Run(fmt.Sprintf("%dx%d", n, benchEndpoints), func(b *testing.B) { run(b, n) })
	}
}

// stopwatch adds up the parts of a benchmark's operation.
type stopwatch map[string]time.Duration

// lap adds what has passed since a time to a part.
func (s stopwatch) lap(part string, since time.Time) { s[part] += time.Since(since) }

func (s stopwatch) report(b *testing.B) {
	for part, d := range s {
		b.ReportMetric(float64(d.Microseconds())/1000/float64(b.N), part+"-ms/op")
	}
}

// remove deletes our tables outside of the time that counts.
func (h host) remove(b *testing.B) {
	b.StopTimer()
	if _, err := h.Remove(rules.DefaultTable); err != nil {
		b.Fatal(err)
	}
	b.StartTimer()
}

// BenchmarkLoad programs all services into a kernel without our tables, as at the
// first start: plan is all that comes before Apply.
func BenchmarkLoad(b *testing.B) {
	eachSize(b, func(b *testing.B, n int) {
		h := newHost(b)
		inputs := benchInputs(n)
		parts := stopwatch{}
		for b.Loop() {
			start := time.Now()
			d := desired()
			d.Update(buildAll(inputs))
			tx := rules.Diff(rules.State{}, d.State())
			parts.lap("plan", start)
			start = time.Now()
			h.apply(b, tx)
			parts.lap("apply", start)
			h.remove(b)
		}
		parts.report(b)
	})
}

// BenchmarkApply takes the full load's Apply apart: encode is ours, kernel the
// system calls', apply/kernel what the whole costs compared with those.
func BenchmarkApply(b *testing.B) {
	eachSize(b, func(b *testing.B, n int) {
		h := newHost(b)
		tx := rules.Diff(rules.State{}, desired(buildAll(benchInputs(n))...).State())
		ops := tx.Ops()
		parts := stopwatch{}
		for b.Loop() {
			start := time.Now()
			h.encode(b, tx.Name, ops)
			parts.lap("encode", start)
			start = time.Now()
			if err := h.commit(&h.batch); err != nil {
				b.Fatal(err)
			}
			parts.lap("kernel", start)
			h.remove(b)
		}
		parts.report(b)
		b.ReportMetric(1+float64(parts["encode"])/float64(parts["kernel"]), "apply/kernel")
	})
}

// encode writes operations as Apply does, into one batch.
func (h host) encode(b *testing.B, table string, ops []rules.Op) {
	h.batch.Begin(table)
	for i := range ops {
		if err := h.batch.Add(&ops[i], func() error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
	if len(h.batch.Buf) > h.limit {
		b.Skipf("%d bytes do not fit a batch of %d: run as root", len(h.batch.Buf), h.limit)
	}
}

// BenchmarkChange changes one service among many, from its endpoints to the commit.
func BenchmarkChange(b *testing.B) {
	h := newHost(b)
	d := desired(buildAll(benchInputs(benchServices))...)
	h.load(b, d.State())
	all := numbers(0, benchEndpoints)
	for _, bb := range []struct {
		name string
		// Each service changes to one and later back to the other.
		one, other []int
	}{
		{"endpoint replaced by one that sorts alike", append(numbers(0, 9), 10), all},
		{"endpoint replaced by one that sorts last", numbers(1, 11), all},
		{"endpoint more or less", numbers(0, 11), all},
		{"service removed or added", nil, all},
	} {
		b.Run(bb.name, func(b *testing.B) {
			elements := 0
			for i := 0; b.Loop(); i++ {
				in := benchService(i/2%benchServices, bb.one...)
				if i%2 == 1 {
					in = benchService(i/2%benchServices, bb.other...)
				}
				if len(in.endpoints) == 0 {
					in.port.ClusterIP = netip.Addr{} // that is no service at all
				}
				tx := d.Update([]rules.Owned{in.build()})
				elements += tx.Elements()
				h.apply(b, tx)
			}
			b.ReportMetric(float64(elements)/float64(b.N), "elements/op")
		})
	}
	// Whatever the number of changes, this is the state they lead to and from.
	h.apply(b, d.Update(buildAll(benchInputs(benchServices))))
	wantSame(b, h.read(b, rules.DefaultTable), d.State())
}

// BenchmarkRead reads everything back and compares it, as an audit does.
func BenchmarkRead(b *testing.B) {
	h := newHost(b)
	want := desired(buildAll(benchInputs(benchServices))...).State()
	h.load(b, want)
	parts := stopwatch{}
	for b.Loop() {
		start := time.Now()
		have := h.read(b, want.Name)
		parts.lap("read", start)
		start = time.Now()
		if tx := rules.Diff(have, want); tx.Len() != 0 {
			b.Fatalf("%d operations left", tx.Len())
		}
		parts.lap("diff", start)
	}
	parts.report(b)
}
