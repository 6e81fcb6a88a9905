// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func letters(s slots) string {
	var b strings.Builder
	for _, i := range s {
		b.WriteByte('a' + byte(i))
	}
	return b.String()
}

// TestSpread shows the order of some weights.
func TestSpread(t *testing.T) {
	for weights, want := range map[string]string{
		"1 1 1":     "abc",
		"3 1":       "abaa",
		"5 1 1":     "abaacaa",
		"4 1 1 1 1": "abacadae",
		"2 3 4":     "bcacbcabc",
		"0 2 0 2":   "bdbd",
		"1 6 5":     "bcbcbcbabcbc",
	} {
		var list []uint64
		for _, w := range strings.Fields(weights) {
			var n uint64
			if _, err := fmt.Sscan(w, &n); err != nil {
				t.Fatal(err)
			}
			list = append(list, n)
		}
		if got := letters(spread(list)); got != want {
			t.Errorf("%s: %s, want %s", weights, got, want)
		}
	}
}

// TestSpreadIsSmooth: for random weights each endpoint has exactly its slots, in any beginning of them its share but for one, or
// two where slots were taken apart, and none has two in a row where that can be avoided.
func TestSpreadIsSmooth(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		weights := make([]uint64, 2+random.IntN(20))
		most, total := uint64(0), uint64(0)
		for i := range weights {
			weights[i] = 1 + random.Uint64N(1+random.Uint64N(100))
			most, total = max(most, weights[i]), total+weights[i]
		}
		s := spread(weights)
		if uint64(len(s)) != total {
			t.Fatalf("%v: %d slots", weights, len(s))
		}
		counts := make([]uint64, len(weights))
		twice := 0
		for j, i := range s {
			counts[i]++
			if s[(j+1)%len(s)] == i {
				twice++
			}
			ideal := float64(j+1) * float64(weights[i]) / float64(total)
			if off := math.Abs(float64(counts[i]) - ideal); off > 2 {
				t.Fatalf("%v: after %d slots endpoint %d has %d, %.1f off", weights, j+1, i, counts[i], off)
			}
		}
		if !slices.Equal(counts, weights) {
			t.Fatalf("%v: counts %v", weights, counts)
		}
		if avoidable := max(0, int(2*most)-int(total)); twice > avoidable {
			t.Fatalf("%v: %d times twice in a row, %d needed: %s", weights, twice, avoidable, letters(s))
		}
	}
}

// TestApportion: whole numbers are as near to the shares as they can be, and small weights keep one where that costs little.
func TestApportion(t *testing.T) {
	for _, tt := range []struct {
		weights []uint64
		total   uint64
		each    bool
		want    string
	}{
		{[]uint64{1, 1, 1}, 4, false, "[2 1 1]"},
		{[]uint64{65535, 65534, 1}, 65535, false, "[32767 32767 1]"},
		{[]uint64{1 << 32, 1}, 65535, false, "[65534 1]"},
		{[]uint64{1 << 32, 1, 1}, 1000, false, "[1000 0 0]"},
		{[]uint64{1 << 32, 1, 1}, 1000, true, "[998 1 1]"},
		{[]uint64{1, 1, 1, 1}, 2, true, "[1 1 0 0]"},
		{[]uint64{0, 0}, 2, true, "[0 0]"},
		{[]uint64{1<<32 - 1, 1<<32 - 1, 1<<32 - 1}, 65536, true, "[21846 21845 21845]"},
	} {
		got := slices.Clone(tt.weights)
		apportion(got, tt.total, tt.each)
		if fmt.Sprint(got) != tt.want {
			t.Errorf("%v of %d: %v, want %s", tt.weights, tt.total, got, tt.want)
		}
	}
}

func weighted(weights ...uint32) []Endpoint {
	out := make([]Endpoint, len(weights))
	for i, w := range weights {
		out[i] = Endpoint{Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), 80), Ready: true}
		out[i].Weight = w
	}
	return out
}

// TestScaledShares: above 65,535 slots the shares are off by less than a thousandth.
func TestScaledShares(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for range 20 {
		list := weighted(make([]uint32, 2+random.IntN(200))...)
		total := uint64(0)
		for i := range list {
			list[i].Weight = 1 + random.Uint32N(MaxWeight)
			total += uint64(list[i].Weight)
		}
		c := Config{}.WithDefaults()
		s := layOut(&ServicePort{}, list, &c)
		if len(s) > MaxEndpoints {
			t.Fatalf("%d slots", len(s))
		}
		for i, n := range s.counts(len(list)) {
			if off := math.Abs(float64(n)/float64(len(s)) - float64(list[i].Weight)/float64(total)); off >= 0.001 {
				t.Errorf("weight %d of %d has %d slots of %d", list[i].Weight, total, n, len(s))
			}
		}
	}
}

// TestEqualWeights: endpoints of one weight have a slot each, in order, whatever the weight is.
func TestEqualWeights(t *testing.T) {
	c := Config{}.WithDefaults()
	for s := range numSchedulers {
		sp := ServicePort{Policies: Policies{Scheduler: s}}
		if got := layOut(&sp, weighted(7, 7, 7), &c); schedulers[s].layout == exact && got != nil {
			t.Errorf("%s: slots %v for endpoints of one weight", s, got)
		}
	}
	if got := letters(layOut(&ServicePort{}, weighted(20, 10, 10), &c)); got != "abac" {
		t.Errorf("weights with a common divisor: %s, want abac", got)
	}
}

// TestSlotLimit: however large weights, tables and numbers of endpoints are, there are no more slots than allowed, but one for each endpoint.
func TestSlotLimit(t *testing.T) {
	c := Config{}.WithDefaults()
	for s := range numSchedulers {
		for _, limit := range []int{0, 16, 64, 100, 1000, MaxEndpoints} {
			for _, n := range []int{2, 3, 50, 300} {
				list := weighted(make([]uint32, n)...)
				for i := range list {
					list[i].Weight, list[i].Warm = MaxWeight-uint32(i), uint8(i%11)
				}
				sp := ServicePort{Limits: Limits{SlotLimit: limit}, Policies: Policies{Scheduler: s, TableSize: MaxMaglevSize}}
				most := max(n, limit)
				if limit == 0 {
					most = MaxEndpoints
				}
				if schedulers[s].layout == tabulate && n > limit {
					most = 2*n + 10 // the next prime of the list
				}
				got := layOut(&sp, list, &c)
				if limit > 0 && len(got) > most || len(got) > MaxEndpoints {
					t.Errorf("%s, limit %d, %d endpoints: %d slots", s, limit, n, len(got))
				}
				for _, i := range got {
					if int(i) >= n {
						t.Fatalf("%s: slot of endpoint %d", s, i)
					}
				}
			}
		}
	}
}

// TestLeastOpen: slots go to those with the fewest connections for their weight.
func TestLeastOpen(t *testing.T) {
	c := Config{}.WithDefaults()
	sp := ServicePort{Policies: Policies{Scheduler: LeastConnections}}
	for _, tt := range []struct {
		weights []uint32
		open    []uint32
		want    string
	}{
		{[]uint32{1, 1}, []uint32{0, 0}, "[32 32]"},
		{[]uint32{1, 3}, []uint32{0, 0}, "[16 48]"},
		{[]uint32{1, 1}, []uint32{10, 0}, "[27 37]"},
		{[]uint32{1, 1}, []uint32{1000, 0}, "[1 63]"},
		{[]uint32{1, 1, 1}, []uint32{100, 100, 100}, "[22 21 21]"},
		{[]uint32{1, 2}, []uint32{100, 200}, "[21 43]"},
		{[]uint32{1, 1}, []uint32{math.MaxUint32, 0}, "[1 63]"},
	} {
		list := weighted(tt.weights...)
		for i := range list {
			list[i].Open = tt.open[i]
		}
		if got := fmt.Sprint(layOut(&sp, list, &c).counts(len(list))); got != tt.want {
			t.Errorf("weights %v, open %v: %s, want %s", tt.weights, tt.open, got, tt.want)
		}
	}
}

// rollingUpdate replaces 10 endpoints with 1,000 open connections one by one, one a second. The clients of each connect again, 50 a second in all. It returns how
// many connections each endpoint has every second, until 10 seconds after the last client has connected again.
func rollingUpdate(s Scheduler) [][]uint32 {
	sp, c := ServicePort{Policies: Policies{Scheduler: s}}, Config{}.WithDefaults()
	random := rand.New(rand.NewPCG(5, 6))
	list := weighted(make([]uint32, 10)...)
	open := slices.Repeat([]uint32{100}, 10)
	waiting, counter := 0, 0
	var out [][]uint32
	for second, rest := 0, 10; rest > 0; second++ {
		if second < 10 {
			waiting, open[second] = waiting+int(open[second]), 0
		}
		for i := range list {
			list[i].Open = open[i]
		}
		slots := layOut(&sp, list, &c)
		for range 50 {
			if waiting == 0 {
				break
			}
			at := counter
			if s == Random {
				at = random.IntN(1 << 20)
			}
			to := at % 10
			if slots != nil {
				to = int(slots[at%len(slots)])
			}
			counter++
			waiting--
			open[to]++
		}
		if waiting == 0 && second >= 10 {
			rest--
		}
		out = append(out, slices.Clone(open))
	}
	return out
}

// TestRollingUpdate: after a rolling update the endpoints' open connections differ by at most a fifth; without counting they do not.
func TestRollingUpdate(t *testing.T) {
	for s, most := range map[Scheduler]float64{RoundRobin: math.Inf(1), Random: math.Inf(1), LeastConnections: 0.2} {
		seconds := rollingUpdate(s)
		last := seconds[len(seconds)-1]
		apart := float64(slices.Max(last)-slices.Min(last)) / 100
		t.Logf("%s: after %d s %v, %.0f %% of the mean apart", s, len(seconds), last, 100*apart)
		if apart > most {
			t.Errorf("%s: %v", s, last)
		}
		if s != LeastConnections && apart < 0.2 {
			t.Errorf("%s is as good: this shows nothing", s)
		}
	}
}

func FuzzLayOut(f *testing.F) {
	f.Add(uint8(5), uint16(1021), []byte{1, 2, 3, 0, 255, 7})
	f.Fuzz(func(t *testing.T, s uint8, limit uint16, data []byte) {
		list := weighted(make([]uint32, min(len(data)/3, 200))...)
		for i := range list {
			list[i].Weight = 1 + uint32(data[3*i])*uint32(data[3*i])*65000
			list[i].Warm, list[i].Open = data[3*i+1]%12, uint32(data[3*i+2])<<24
		}
		c := Config{}.WithDefaults()
		sp := ServicePort{Limits: Limits{SlotLimit: int(limit)}, Policies: Policies{Scheduler: Scheduler(s) % numSchedulers, TableSize: 251}}
		got := layOut(&sp, list, &c)
		for _, i := range got {
			if int(i) >= len(list) {
				t.Fatal("a slot leads nowhere")
			}
		}
	})
}
