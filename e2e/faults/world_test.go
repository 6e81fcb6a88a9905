// SPDX-License-Identifier: Apache-2.0

//go:build linux

package faults

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/netns/netnstest"
	"github.com/nftproxy/nftproxy/e2e/proxy"
	"github.com/nftproxy/nftproxy/e2e/traffic"
	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/kernel"
)

const (
	servicePort = 80
	backendPort = 8080
	// nodePort is the first; each Service has another.
	nodePort = 30000
)

// world is a cluster with servers in its pods, and nftproxy on its node.
type world struct {
	*netns.Cluster
	t         *testing.T
	manifests proxy.Manifests
	nftproxy  *proxy.Process
	args      []string
}

// newWorld makes a cluster whose nftproxy has some arguments besides those that all have. It is not started yet.
func newWorld(t *testing.T, args ...string) *world {
	t.Helper()
	w := &world{Cluster: netnstest.NewCluster(t, netns.Config{RemotePods: 3}), t: t, manifests: proxy.Manifests{Dir: t.TempDir()}}
	w.args = append([]string{"run", "--manifests", w.manifests.Dir, "--hostname-override", "node", "--nodeport-addresses", netns.NodeNet4 + "," + netns.NodeNet6,
		"--cluster-cidr", netns.ClusterCIDR4 + "," + netns.ClusterCIDR6}, args...)
	for _, hosts := range [][]netns.Host{w.Local[:1], w.Local[1:], w.RemotePods} {
		var addrs []netip.Addr
		for _, h := range hosts {
			addrs = append(addrs, h.V4, h.V6)
		}
		all := traffic.Protocols()
		s, err := traffic.Serve(hosts[0].NS, traffic.Endpoints(addrs, []uint16{backendPort}, all[:]...)...)
		w.must(err)
		t.Cleanup(func() { w.must(s.Close()) })
	}
	t.Cleanup(func() {
		if w.nftproxy == nil {
			return
		}
		if t.Failed() {
			t.Logf("the log of nftproxy:\n%s", w.nftproxy.Log())
		}
		w.nftproxy.Kill()
	})
	return w
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// patient returns a context for something that is waited for.
func (w *world) patient() context.Context {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 2*netns.Patience())
	w.t.Cleanup(cancel)
	return ctx
}

// pod returns pods by number: two are on the node.
func (w *world) pod(i int) netns.Host {
	pods := append(append([]netns.Host{}, w.Local...), w.RemotePods...)
	return pods[i%len(pods)]
}

// serviceText is a manifest of a Service, of both families and all protocols, and of its EndpointSlices.
const serviceText = `{"apiVersion":"v1","kind":"List","items":[
{"apiVersion":"v1","kind":"Service","metadata":{"namespace":"test","name":"%[1]s"},
 "spec":{"type":"NodePort","clusterIP":"%[2]s","clusterIPs":["%[2]s","%[3]s"],"ports":[%[4]s]}},
{"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","metadata":{"namespace":"test","name":"%[1]s-v4","labels":{"kubernetes.io/service-name":"%[1]s"}},
 "addressType":"IPv4","ports":[%[5]s],"endpoints":[%[6]s]},
{"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","metadata":{"namespace":"test","name":"%[1]s-v6","labels":{"kubernetes.io/service-name":"%[1]s"}},
 "addressType":"IPv6","ports":[%[5]s],"endpoints":[%[7]s]}]}`

// put writes the i-th Service, from 0 on, with these pods as endpoints. It waits for nothing.
func (w *world) put(i int, pods ...netns.Host) {
	w.t.Helper()
	var ports, targets []string
	var endpoints [2][]string
	for n, p := range traffic.Protocols() {
		ports = append(ports, fmt.Sprintf(`{"name":"p%d","protocol":"%s","port":%d,"targetPort":%d,"nodePort":%d}`, n, p, servicePort, backendPort, nodePort+i))
		targets = append(targets, fmt.Sprintf(`{"name":"p%d","protocol":"%s","port":%d}`, n, p, backendPort))
	}
	for _, pod := range pods {
		for n, f := range netns.Families() {
			endpoints[n] = append(endpoints[n], fmt.Sprintf(`{"addresses":["%s"],"conditions":{"ready":true}}`, pod.Addr(f)))
		}
	}
	name := fmt.Sprintf("web-%d", i)
	w.must(w.manifests.Write(name+".json", fmt.Appendf(nil, serviceText, name, w.at(i, netns.IPv4).Addr(), w.at(i, netns.IPv6).Addr(),
		strings.Join(ports, ","), strings.Join(targets, ","), strings.Join(endpoints[0], ","), strings.Join(endpoints[1], ","))))
}

// at is where the i-th Service is.
func (w *world) at(i int, f netns.Family) netip.AddrPort {
	return netip.AddrPortFrom(netns.ServiceAddr(f, i+1), servicePort)
}

// nodeAt is where it is from outside.
func (w *world) nodeAt(i int, f netns.Family) netip.AddrPort {
	return netip.AddrPortFrom(w.Node.Addr(f), uint16(nodePort+i))
}

// targets are those of the i-th Service: in all protocols over both families, from a pod and from the node to its ClusterIPs, from
// outside to its NodePorts.
func (w *world) targets(i int) (list []Target) {
	for _, f := range netns.Families() {
		for _, p := range traffic.Protocols() {
			list = append(list, Target{From: w.Client, Protocol: p, To: w.at(i, f)}, Target{From: w.Node, Protocol: p, To: w.at(i, f)},
				Target{From: w.Outside, Protocol: p, To: w.nodeAt(i, f)})
		}
	}
	return list
}

// start starts nftproxy and waits until it has programmed what is there.
func (w *world) start() {
	w.t.Helper()
	w.launch()
	w.must(w.nftproxy.WaitSynced(w.patient()))
}

// launch starts nftproxy.
func (w *world) launch() {
	w.t.Helper()
	var err error
	w.nftproxy, err = proxy.Start(w.process(w.args...))
	w.must(err)
}

func (w *world) process(args ...string) proxy.Config {
	return proxy.Config{Args: args, Env: []string{runEnv + "=1"}, NS: w.Node.NS}
}

// load begins traffic to Services.
func (w *world) load(services ...int) *Load {
	w.t.Helper()
	var targets []Target
	for _, i := range services {
		targets = append(targets, w.targets(i)...)
	}
	for _, from := range []netns.Host{w.Client, w.Node} {
		targets = append(targets, Target{From: from, Protocol: traffic.TCP, To: netip.AddrPortFrom(w.pod(2).V4, backendPort), Direct: true})
	}
	l, err := Start(w.t.Context(), targets...)
	w.must(err)
	w.t.Cleanup(func() { l.End() })
	w.must(l.GoOn(w.patient(), len(targets)))
	return l
}

// programmed waits until what was put is programmed.
func (w *world) programmed() {
	w.t.Helper()
	if err := w.manifests.Programmed(w.patient(), w.Node.NS); err != nil {
		w.t.Fatalf("%v\n%s", err, w.nftproxy.Log())
	}
}

// state reads the node's tables, as another program.
func (w *world) state() rules.State {
	w.t.Helper()
	var s rules.State
	w.must(w.Node.Do(func() error {
		k, err := kernel.Open()
		if err != nil {
			return err
		}
		defer func() { _ = k.Close() }()
		s, err = k.Read(rules.DefaultTable)
		return err
	}))
	return s
}

// right waits until the tables are as they should be, and returns how long that took. It gives up after some time.
func (w *world) right(want rules.State, most time.Duration) (time.Duration, error) {
	w.t.Helper()
	begin := time.Now()
	for {
		asked := time.Now()
		left := rules.Diff(w.state(), want)
		switch {
		case left.Len() == 0:
			return asked.Sub(begin), nil
		case time.Since(begin) > most:
			return 0, fmt.Errorf("after %v %d operations are missing", most, left.Len())
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// equal checks that the command diff finds nothing.
func (w *world) equal() {
	w.t.Helper()
	if out, err := w.diff(w.patient()); err != nil {
		w.t.Errorf("diff: %v\n%s", err, out)
	}
}

// diff runs the command diff with the options of nftproxy.
func (w *world) diff(ctx context.Context) (string, error) {
	args := slices.DeleteFunc(slices.Clone(w.args[1:]), func(a string) bool { return strings.HasPrefix(a, "--own-tables") }) // of run only
	return proxy.Run(ctx, w.process(append([]string{"diff"}, args...)...))
}

// nft runs commands of the program nft on the node.
func (w *world) nft(commands string) error {
	w.t.Helper()
	cmd := exec.CommandContext(w.t.Context(), netnstest.Tool(w.t, "nft"), "-f", "-")
	cmd.Stdin = strings.NewReader(commands)
	var out []byte
	err := w.Node.Do(func() (err error) { out, err = cmd.CombinedOutput(); return err })
	if err != nil {
		return fmt.Errorf("nft: %w: %s", err, out)
	}
	return nil
}

// signal sends nftproxy a signal.
func (w *world) signal(s syscall.Signal) {
	w.t.Helper()
	if err := syscall.Kill(w.nftproxy.Pid(), s); err != nil && !errors.Is(err, syscall.ESRCH) {
		w.t.Fatal(err)
	}
}
