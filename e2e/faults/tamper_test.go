// SPDX-License-Identifier: Apache-2.0

//go:build linux

package faults

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"

	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/netns/netnstest"
	"github.com/nftproxy/nftproxy/e2e/proxy"
	"github.com/nftproxy/nftproxy/rules"
)

const tamperRow = "others in our tables"

// tampering is what another program does to our tables.
type tampering struct {
	name string
	// commands are nft's, for both families. TABLE, TYPE, ADDR, SERVICE and OTHER are a family's: ADDR is the
	// ClusterIP of a Service with two endpoints, SERVICE of one with one, and OTHER an address of nobody's.
	commands string
	// rule changes the first rule of the chain services, instead.
	rule func(c *nftables.Conn, r *nftables.Rule)
	// anyFamily says that once is enough for both.
	anyFamily bool
}

// tamperings are all kinds.
var tamperings = []tampering{
	{name: "delete a table", commands: "delete table TABLE"},
	{name: "flush the ruleset", commands: "flush ruleset", anyFamily: true},
	{name: "flush a table", commands: "flush table TABLE"},
	{name: "make a table dormant", commands: "add table TABLE { flags dormant; }"},
	{name: "replace a table by one with a comment", commands: "delete table TABLE\nadd table TABLE { comment \"x\"; }"},
	{name: "add a chain", commands: "add chain TABLE theirs"},
	{name: "add a hooked chain that drops", commands: "add chain TABLE theirs { type filter hook prerouting priority raw; policy drop; }"},
	{name: "flush a Service's chain", commands: "flush chain TABLE service/test/web-0/p0"},
	{name: "flush the chain of all Services", commands: "flush chain TABLE services"},
	{name: "delete a hooked chain", commands: "flush chain TABLE prerouting\ndelete chain TABLE prerouting"},
	{name: "rename a chain", commands: "rename chain TABLE no-endpoints theirs"},
	{name: "change a chain's policy", commands: "add chain TABLE output { policy drop; }"},
	{name: "add a rule that drops", commands: "insert rule TABLE services drop"},
	{name: "delete a rule", rule: func(c *nftables.Conn, r *nftables.Rule) { _ = c.DelRule(r) }},
	{name: "change a rule", rule: func(c *nftables.Conn, r *nftables.Rule) {
		r.Exprs = []expr.Any{&expr.Counter{}}
		c.ReplaceRule(r)
	}},
	{name: "add a rule with a comment", commands: "add rule TABLE services return comment \"x\""},
	{name: "add a set", commands: "add set TABLE theirs { type mark; }"},
	{name: "delete a map and the rules that use it", commands: "flush chain TABLE services\ndelete map TABLE single"},
	{name: "flush a set", commands: "flush set TABLE cluster-ips"},
	{name: "add an element", commands: "add element TABLE cluster-ips { OTHER }"},
	{name: "delete an element", commands: "delete element TABLE service-ips { ADDR . tcp . 80 }"},
	{name: "change an element", commands: "delete element TABLE single { SERVICE . tcp . 80 }\nadd element TABLE single { SERVICE . tcp . 80 : OTHER . 8080 }"},
	{name: "give an element a comment", commands: "delete element TABLE cluster-ips { ADDR }\nadd element TABLE cluster-ips { ADDR comment \"x\" }"},
	{name: "add an element for all keys", commands: "add element TABLE cluster-ips { * }"},
	{name: "add a counter", commands: "add counter TABLE theirs"},
	{name: "add a flowtable", commands: "add flowtable TABLE theirs { hook ingress priority 0; devices = { lo }; }"},
}

// errNotHere says that this kernel cannot do it.
var errNotHere = errors.New("this kernel has none")

// tamper does it once.
func (w *world) tamper(c *nftables.Conn, k *tampering) error {
	var script strings.Builder
	for f := range rules.Families {
		family := netns.Families()[f]
		if k.rule != nil {
			if err := w.changeRule(c, []nftables.TableFamily{nftables.TableFamilyIPv4, nftables.TableFamilyIPv6}[f], k.rule); err != nil {
				return err
			}
			continue
		}
		words := strings.NewReplacer("TABLE", rules.Families[f].String()+" "+rules.DefaultTable, "TYPE", []string{"ipv4_addr", "ipv6_addr"}[f],
			"ADDR", w.at(0, family).Addr().String(), "SERVICE", w.at(1, family).Addr().String(), "OTHER", netns.ServiceAddr(family, 60000).String())
		fmt.Fprintln(&script, words.Replace(k.commands))
		if k.anyFamily {
			break
		}
	}
	if k.rule != nil {
		return nil
	}
	err := w.nft(script.String())
	if err != nil && strings.Contains(k.commands, "flowtable") && !strings.Contains(err.Error(), "permitted") {
		return errNotHere
	}
	return err
}

func (w *world) changeRule(c *nftables.Conn, f nftables.TableFamily, change func(c *nftables.Conn, r *nftables.Rule)) error {
	table := &nftables.Table{Name: rules.DefaultTable, Family: f}
	list, err := c.GetRules(table, &nftables.Chain{Table: table, Name: "services"})
	if err != nil || len(list) == 0 {
		return fmt.Errorf("list rules: %d, %w", len(list), err)
	}
	change(c, list[0])
	return c.Flush()
}

// The two ways to have tables, and what nftproxy is told for each.
const (
	ownedTables   = "owned tables"
	unownedTables = "tables of nobody"
)

// owners returns the arguments of nftproxy for each way that it and this kernel have.
func owners(t *testing.T) map[string][]string {
	t.Helper()
	help, err := proxy.Run(t.Context(), proxy.Config{Args: []string{"run", "--help"}, Env: []string{runEnv + "=1"}, NS: netnstest.NewCluster(t, netns.Config{}).Node.NS})
	if err != nil || !strings.Contains(help, "--own-tables") {
		return map[string][]string{unownedTables: nil}
	}
	return map[string][]string{ownedTables: {"--own-tables=auto"}, unownedTables: {"--own-tables=never"}}
}

// TestTampering does each kind of tampering once, and waits for its repair.
func TestTampering(t *testing.T) {
	for owned, args := range owners(t) {
		t.Run(owned, func(t *testing.T) {
			w := newWorld(t, args...)
			w.put(0, w.pod(0), w.pod(2))
			w.put(1, w.pod(1))
			w.start()
			want, c := w.state(), w.conn()
			l := w.load(0, 1)
			var slowest time.Duration
			var worst, absent string
			done := 0
			for _, k := range tamperings {
				err := w.tamper(c, &k)
				if errors.Is(err, errNotHere) {
					absent = "; not here: " + k.name
					continue
				}
				if (err == nil || k.anyFamily) == (owned == ownedTables) && !k.anyFamily {
					t.Errorf("%s: %v", k.name, err)
				}
				took, err := w.right(want, netns.Patience())
				if err != nil {
					t.Fatalf("%s: %v", k.name, err)
				}
				if done++; took > slowest {
					slowest, worst = took, "; the slowest: "+k.name
				}
				t.Logf("%s: right after %v", k.name, took)
				w.must(l.GoOn(w.patient(), 30))
			}
			counts := l.End()
			w.equal()
			recorder(owned)(t, Result{Row: tamperRow, Fault: fmt.Sprintf("%d kinds of tampering, once each, %s", done, owned), Counts: counts, Right: slowest,
				Note: strings.TrimPrefix(worst+absent, "; ")})
		})
	}
}

// recorder is what a result is recorded with. Tables that everybody may change are not as they should be until they are repaired:
// connections that are made just then fail, whatever nftproxy does.
func recorder(owned string) func(testing.TB, Result) {
	if owned == ownedTables {
		return Record
	}
	return Note
}

// mostCPU is which part of a core nftproxy may take while others change its tables all the time.
const mostCPU = 0.05

// timed says whether times are compared: only where all is done, on a machine that does nothing else.
func timed() bool { return Amount(false, false, true) }

// loopPace is how often a program that will not stop does it.
const loopPace = 100 * time.Millisecond

// TestTamperingLoop does it ten times a second, while Services change.
func TestTamperingLoop(t *testing.T) {
	kinds := Amount([]string{"add an element", "flush the ruleset"}, []string{"add an element", "delete an element", "add a rule that drops", "flush the ruleset"}, nil)
	long := Amount(time.Second, 5*time.Second, 6*time.Second)
	for owned, args := range owners(t) {
		t.Run(owned, func(t *testing.T) {
			w := newWorld(t, args...)
			w.put(0, w.pod(0), w.pod(2))
			w.put(1, w.pod(1))
			w.start()
			c := w.conn()
			quiet := w.changes(long)
			for _, k := range tamperings {
				if kinds != nil && !slices.Contains(kinds, k.name) {
					continue
				}
				if err := w.tamper(c, &k); errors.Is(err, errNotHere) {
					continue
				}
				w.loop(c, &k, owned, long, quiet)
			}
		})
	}
}

// loop does one kind again and again for some time.
func (w *world) loop(c *nftables.Conn, k *tampering, owned string, long, quiet time.Duration) {
	w.t.Helper()
	l := w.load(0, 1)
	stop, ended := make(chan struct{}), make(chan int)
	go func() {
		tick := time.NewTicker(loopPace)
		defer tick.Stop()
		for n := 0; ; n++ {
			select {
			case <-stop:
				ended <- n
				return
			case <-tick.C:
				_ = w.tamper(c, k) // what is done already, or not permitted
			}
		}
	}()
	before, begin := w.cpu(), time.Now()
	time.Sleep(long)
	cpu := float64(w.cpu()-before) / float64(time.Since(begin))
	slow := w.changes(long)
	close(stop)
	times := <-ended
	took := w.settled()
	counts := l.End()
	if cpu > mostCPU && timed() {
		w.t.Errorf("%s: nftproxy takes %.1f %% of a core", k.name, 100*cpu)
	}
	if slow > 2*quiet+10*time.Millisecond && timed() && owned == ownedTables {
		w.t.Errorf("%s: a change of a Service takes %v, else %v", k.name, slow, quiet)
	}
	recorder(owned)(w.t, Result{Row: tamperRow, Fault: fmt.Sprintf("%s, %d times at 10/s, %s", k.name, times, owned), Counts: counts, Right: took,
		Note: fmt.Sprintf("CPU %.1f %%; a Service's change took %v, else %v", 100*cpu, slow.Round(100*time.Microsecond), quiet.Round(100*time.Microsecond))})
}

// settled waits until the tables are as they should be, and returns how long that took.
func (w *world) settled() time.Duration {
	w.t.Helper()
	ctx := w.patient()
	for begin := time.Now(); ; {
		asked := time.Since(begin)
		out, err := w.diff(ctx)
		if err == nil {
			return asked
		}
		if ctx.Err() != nil {
			w.t.Fatalf("the tables do not become right: %v\n%s", err, out)
		}
	}
}

// changes changes a Service again and again for some time, and returns how long one took, in the middle.
func (w *world) changes(long time.Duration) time.Duration {
	w.t.Helper()
	var all []time.Duration
	for begin, i := time.Now(), 0; time.Since(begin) < long; i++ {
		w.put(2, w.pod(i))
		changed := time.Now()
		w.programmed()
		all = append(all, time.Since(changed))
		time.Sleep(50 * time.Millisecond)
	}
	slices.Sort(all)
	return all[len(all)/2]
}

// cpu returns how much CPU time nftproxy has had.
func (w *world) cpu() time.Duration {
	w.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", w.nftproxy.Pid()))
	w.must(err)
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+2:]))
	var ticks int
	for _, f := range fields[11:13] { // utime and stime
		n, err := strconv.Atoi(f)
		w.must(err)
		ticks += n
	}
	return time.Duration(ticks) * time.Second / 100
}
