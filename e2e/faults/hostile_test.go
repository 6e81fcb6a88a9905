// SPDX-License-Identifier: Apache-2.0

//go:build linux

package faults

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// hostilePace is how often a hostile file is written.
const hostilePace = 10 * time.Millisecond

// hostile are texts that somebody may write into a file of manifests; SEED differs each time.
var hostile = []string{
	"", "\x00\xff\xfe", "[", "{}", "null", "a: &a [*a, *a]", "- - - - -", strings.Repeat("[", 5000), strings.Repeat("a: {", 2000),
	"a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: [*d,*d,*d,*d,*d,*d,*d,*d,*d]\n",
	"apiVersion: v1\nkind: Service\nmetadata: {namespace: evil, name: \"\\e[2J\\nSEED\"}\nspec: {clusterIP: 10.96.200.1, ports: [{port: 80}]}\n",
	"apiVersion: v1\nkind: Service\nmetadata: {namespace: evil, name: nSEED}\nspec: {clusterIP: 10.96.204.1, externalIPs: [10.96.0.1, 172.18.0.2, 127.0.0.1, 0.0.0.0], ports: [{port: 80}]}\n",
	"apiVersion: v1\nkind: Service\nmetadata: {namespace: evil, name: nSEED}\nspec: {clusterIP: 10.96.201.1, ports: [{port: 99999999999999999999}]}\n",
	"apiVersion: v1\nkind: Service\nmetadata: {namespace: evil, name: nSEED, annotations: {nftproxy.io/scheduler: \"\\u202e\"}}\nspec: {type: LoadBalancer, clusterIP: 10.96.202.1, loadBalancerSourceRanges: [x, 0.0.0.0/0, ::/0, 10.0.0.0/33], ports: [{port: 80, nodePort: 30000}]}\nstatus: {loadBalancer: {ingress: [{ip: 10.96.0.1}, {hostname: x}]}}\n",
	"apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {namespace: test, name: sSEED, labels: {kubernetes.io/service-name: web-9}}\naddressType: IPv4\nports: [{port: 8080}]\nendpoints: [{addresses: [127.0.0.1, 255.255.255.255, x]}]\n",
	"apiVersion: v1\nkind: Node\nmetadata: {name: node}\nspec: {podCIDRs: [x, 10.0.0.0/0]}\nstatus: {addresses: [{type: InternalIP, address: \"::1%eth0\"}]}\n",
	"apiVersion: networking.k8s.io/v1\nkind: ServiceCIDR\nmetadata: {name: all}\nspec: {cidrs: [0.0.0.0/0, \"::/0\", x]}\n",
	"kind: Secret\napiVersion: v1\nmetadata: {name: x}\n---\n---\n---\n",
}

// manyPorts is a Service with as many ports as there may be, and some more.
func manyPorts(seed int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "apiVersion: v1\nkind: Service\nmetadata: {namespace: evil, name: many}\nspec:\n  clusterIP: 10.96.203.1\n  ports:\n")
	for i := range 300 {
		fmt.Fprintf(&b, "  - {name: p%d, port: %d}\n", i, 1+(i+seed)%60000)
	}
	return b.String()
}

var residentLine = regexp.MustCompile(`(?m)^VmRSS:\s+(\d+) kB$`)

// resident returns how much memory nftproxy has, in bytes.
func (w *world) resident() int {
	w.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", w.nftproxy.Pid()))
	w.must(err)
	m := residentLine.FindSubmatch(text)
	if m == nil {
		w.t.Fatalf("no VmRSS in\n%s", text)
	}
	n, err := strconv.Atoi(string(m[1]))
	w.must(err)
	return n << 10
}

// TestHostile writes hostile files a hundred times a second: nftproxy goes on, does not grow, and the Services of others are served.
func TestHostile(t *testing.T) {
	long := Amount(2*time.Second, 10*time.Second, time.Minute)
	w := newWorld(t)
	w.put(0, w.pod(0), w.pod(2))
	w.put(1, w.pod(1))
	w.start()
	l := w.load(0, 1)
	random := rand.New(rand.NewPCG(1, 2))
	n := 0
	write := func(long time.Duration) {
		tick := time.NewTicker(hostilePace)
		defer tick.Stop()
		for begin := time.Now(); time.Since(begin) < long; n++ {
			text := manyPorts(n)
			if i := random.IntN(len(hostile) + 1); i < len(hostile) {
				text = strings.ReplaceAll(hostile[i], "SEED", strconv.Itoa(n))
			}
			data := []byte(text)
			if random.IntN(3) == 0 && len(data) > 0 { // and anything
				data = bytes.Clone(data)
				data[random.IntN(len(data))] ^= byte(1 + random.IntN(255))
			}
			w.must(w.manifests.Write(fmt.Sprintf("evil-%d.yaml", n%40), data))
			<-tick.C
		}
	}
	write(long / 2)
	before := w.resident()
	write(long / 2)
	after := w.resident()
	if after > before+before/2+32<<20 {
		t.Errorf("memory went from %d to %d MB", before>>20, after>>20)
	}
	if w.nftproxy.Ended() {
		t.Fatal("nftproxy has ended")
	}
	for i := range 40 {
		if err := os.Remove(filepath.Join(w.manifests.Dir, fmt.Sprintf("evil-%d.yaml", i))); err != nil && !os.IsNotExist(err) {
			t.Error(err)
		}
	}
	begin := time.Now()
	w.programmed()
	right := time.Since(begin)
	counts := l.End()
	w.equal()
	Record(t, Result{Row: "hostile files", Fault: fmt.Sprintf("%d in %v", n, long), Counts: counts, Right: right,
		Note: fmt.Sprintf("%d MB of memory half way, %d MB at the end; the log has %d lines", before>>20, after>>20, strings.Count(w.nftproxy.Log(), "\n"))})
}
