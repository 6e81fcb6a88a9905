// SPDX-License-Identifier: Apache-2.0

//go:build linux

package scale

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nftproxy/nftproxy/conntrack"
	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/netns/netnstest"
	"github.com/nftproxy/nftproxy/proxier"
	"github.com/nftproxy/nftproxy/rules/inspect"
)

// form is a way to notice connections without an answer: nftproxy's own, or rules of a table beside those of an nftproxy
// without failover.
type form struct {
	name     string
	failover bool
	out      bool     // the rules are in a chain of hook output, too
	rules    []string // of a chain of hook prerouting
}

// forms returns what is compared. All but the last note who answers, too, without which slow endpoints would be ejected.
func forms() []form {
	const (
		asks    = "tcp flags & (fin|syn|rst|ack) == syn"
		answers = "tcp flags & (fin|syn|rst|ack) == (syn|ack)"
		note    = "add @unanswered { ip saddr . th sport }"
		answer  = "update @answering { ip saddr . th sport }"
		young   = "ct status ! assured ct status dnat"
	)
	own := []string{young + ` iifname != "lo" meta l4proto { tcp, udp, sctp } jump failover`}
	return []form{
		{name: "without"},
		{name: "failover", failover: true},
		{name: "one-hook", rules: own},
		{name: "flags-first", out: true, rules: []string{asks + " ct status dnat " + note, answers + " ct direction reply ct status dnat " + answer}},
		{name: "direction-first", out: true, rules: []string{"ct direction reply " + young + " " + answer, "ct direction original " + young + " ct state new " + note}},
		{name: "asks-only", rules: []string{asks + " ct status dnat " + note}},
	}
}

// table returns the form's own rules; nothing if nftproxy has them.
func (f form) table() string {
	if len(f.rules) == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString("table ip form {\n")
	for _, set := range []string{"unanswered", "answering"} {
		fmt.Fprintf(&b, "set %s { type ipv4_addr . inet_service; size 65535; flags dynamic,timeout; timeout 1m; }\n", set)
	}
	b.WriteString("chain failover { ct direction reply update @answering { ip saddr . th sport }; ct state new add @unanswered { ip saddr . th sport }; }\n")
	fmt.Fprintf(&b, "chain in { type filter hook prerouting priority mangle; %s; }\n", strings.Join(f.rules, "; "))
	if f.out {
		fmt.Fprintf(&b, "chain out { type filter hook output priority mangle; %s; }\n", strings.Join(f.rules, "; "))
	}
	return b.String() + "}\n"
}

// failoverAnnotation is cluster.FailoverAnnotation; the network has that name here.
const failoverAnnotation = "nftproxy.io/failover"

// The ports of a pod that answer each byte, and that take what comes.
const (
	echoPort   = 8181
	streamPort = 8182
)

// formed is a node with a form's rules, and what it took to send through it.
type formed struct {
	form
	cluster
	echo, stream netip.AddrPort // Services
	asking, sink net.Conn
	took         map[string][]float64 // by metric
}

// newFormed makes the node and starts nftproxy there. It ends with the benchmark.
func newFormed(b *testing.B, f form) *formed {
	b.Helper()
	c := &formed{form: f, cluster: newCluster(b, 2), took: map[string][]float64{}}
	c.node.use = func(p *proxier.Proxier) { useFailover(b, c.Node.NS, p) }
	services, list := size{3, 2}.objects()
	for i, port := range []int32{echoPort, streamPort} {
		services[i].Annotations = map[string]string{failoverAnnotation: fmt.Sprint(f.failover)}
		list[i].Ports[0].Port = &port
		for j, pod := range c.RemotePods {
			list[i].Endpoints[j].Addresses = []string{pod.V4.String()}
			serve(b, pod.V4, c.Remote.NS, port)
		}
	}
	c.node.start()
	c.node.ReplaceServices(services)
	c.node.ReplaceEndpointSlices(list)
	c.node.synced()
	if text := f.table(); text != "" {
		cmd := exec.Command(netnstest.Tool(b, "nft"), "-f", "-")
		cmd.Stdin = strings.NewReader(text)
		if err := c.Node.Do(func() error { out, err := cmd.CombinedOutput(); return wrapOutput(err, out) }); err != nil {
			b.Fatal(err)
		}
	}
	c.echo, c.stream = netip.AddrPortFrom(address(96, 0), 80), netip.AddrPortFrom(address(96, 1), 80)
	err := c.Client.Do(func() (err error) {
		if c.asking, err = net.Dial("tcp", c.echo.String()); err != nil {
			return err
		}
		c.sink, err = net.Dial("tcp", c.stream.String())
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _, _ = c.asking.Close(), c.sink.Close() })
	return c
}

func wrapOutput(err error, out []byte) error {
	if err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return nil
}

// useFailover has a proxier look after connections, as the program does.
func useFailover(b *testing.B, ns *netns.NS, p *proxier.Proxier) {
	b.Helper()
	var sets *inspect.Inspector
	var flows *conntrack.Conn
	err := ns.Do(func() (err error) {
		if sets, err = inspect.Open(); err == nil {
			flows, err = conntrack.Open()
		}
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _, _ = sets.Close(), flows.Close() })
	p.UseFailover(proxier.Failover{Noted: sets, Flows: flows})
}

// serve takes connections, and answers what comes on echoPort. It ends with the benchmark.
func serve(b *testing.B, at netip.Addr, ns *netns.NS, port int32) {
	b.Helper()
	var l net.Listener
	err := ns.Do(func() (err error) {
		l, err = net.Listen("tcp4", netip.AddrPortFrom(at, uint16(port)).String())
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				if port == echoPort {
					_, _ = io.Copy(conn, conn)
				} else {
					_, _ = io.Copy(io.Discard, conn)
				}
			}()
		}
	}()
}

// How much is done at a time.
const (
	roundTrips  = 200
	connections = 50
	megabytes   = 16
)

// measure does something some times, and notes how long one took, and how much processor time of the whole process.
func (c *formed) measure(b *testing.B, metric string, times int, do func() error) {
	b.Helper()
	err := c.Client.Do(func() error {
		cpu, start := cpuTime(b), time.Now()
		for range times {
			if err := do(); err != nil {
				return err
			}
		}
		took, busy := time.Since(start), cpuTime(b)-cpu
		c.took[metric] = append(c.took[metric], took.Seconds()*1e6/float64(times))
		c.took[metric+"-cpu"] = append(c.took[metric+"-cpu"], busy.Seconds()*1e6/float64(times))
		return nil
	})
	if err != nil {
		b.Fatalf("%s, %s: %v", c.name, metric, err)
	}
}

func (c *formed) round(b *testing.B) {
	b.Helper()
	one, much := make([]byte, 1), make([]byte, 1<<20)
	c.measure(b, "trip", roundTrips, func() error {
		if _, err := c.asking.Write(one); err != nil {
			return err
		}
		_, err := io.ReadFull(c.asking, one)
		return err
	})
	c.measure(b, "connect", connections, func() error { _, err := connect(c.echo); return err })
	c.measure(b, "MB", megabytes, func() error { _, err := c.sink.Write(much); return err })
}

// BenchmarkFailover compares a node with failover with one without, and with other ways to notice what is not answered: a round
// trip on an established connection, a new connection, a megabyte on an established connection; each with the processor
// time of client, server and kernel together. All take turns; an operation is one of each of all of them. Of each the least and
// the median are told, in microseconds.
func BenchmarkFailover(b *testing.B) {
	var all []*formed
	for _, f := range forms() {
		all = append(all, newFormed(b, f))
	}
	for i := 0; b.Loop(); i++ {
		for j := range all {
			all[(i+j)%len(all)].round(b)
		}
	}
	b.ReportMetric(0, "ns/op")
	for _, c := range all {
		for _, metric := range []string{"trip", "trip-cpu", "connect", "connect-cpu", "MB", "MB-cpu"} {
			list := c.took[metric]
			slices.Sort(list)
			b.ReportMetric(list[0], c.name+"-"+metric+"-min-us")
			b.ReportMetric(list[len(list)/2], c.name+"-"+metric+"-p50-us")
		}
	}
}
