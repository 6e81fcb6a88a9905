// SPDX-License-Identifier: Apache-2.0

//go:build linux

package packets

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/runtime"

	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/netns/netnstest"
	"github.com/nftproxy/nftproxy/e2e/proxy"
	"github.com/nftproxy/nftproxy/e2e/traffic"
)

// patience is how long anything may take that is waited for.
var patience = netns.Patience()

// backendPort is where every pod answers.
const backendPort = 8080

// config says what a world is like. Its zero value is useful.
type config struct {
	cluster netns.Config // default: 2 local pods and 5 remote ones
	args    []string     // of `nftproxy run`, after those that every world has
	ports   []uint16     // where every pod answers, besides backendPort
	node    bool         // the node itself answers at these ports, too
}

// world is a cluster with servers in its pods and nftproxy on its node. It is for
// one goroutine, as are the subtests that share it; the traffic may have more.
type world struct {
	*netns.Cluster
	manifests proxy.Manifests
	nftproxy  *proxy.Process
	args      []string
	services  int // made so far
}

func newWorld(t *testing.T, c config) *world {
	t.Helper()
	if c.cluster.RemotePods == 0 {
		c.cluster.RemotePods = 5
	}
	w := &world{Cluster: netnstest.NewCluster(t, c.cluster), manifests: proxy.Manifests{Dir: t.TempDir()}}
	w.args = append([]string{"run", "--manifests", w.manifests.Dir, "--hostname-override", "node",
		"--cluster-cidr", netns.ClusterCIDR4 + "," + netns.ClusterCIDR6}, c.args...)
	hosts := append([]netns.Host{w.Client}, w.Local...)
	if c.node {
		hosts = append(hosts, w.Node)
	}
	ports := append([]uint16{backendPort}, c.ports...)
	for _, h := range hosts {
		serve(t, ports, h)
	}
	serve(t, ports, w.RemotePods...)
	t.Cleanup(func() { w.end(t) })
	w.start(t)
	return w
}

// serve answers at ports of hosts in one namespace, in all protocols and both
// families, until the test ends.
func serve(t *testing.T, ports []uint16, hosts ...netns.Host) *traffic.Server {
	t.Helper()
	var addrs []netip.Addr
	for _, h := range hosts {
		addrs = append(addrs, h.V4, h.V6)
	}
	all := traffic.Protocols()
	s, err := traffic.Serve(hosts[0].NS, traffic.Endpoints(addrs, ports, all[:]...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, err := range s.Bad() {
			t.Errorf("%s got a broken packet: %v", hosts[0].Name(), err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// process says how to run nftproxy on the node.
func (w *world) process(args ...string) proxy.Config {
	return proxy.Config{Args: args, Env: []string{runEnv + "=1"}, NS: w.Node.NS}
}

// start starts nftproxy and waits until it has programmed what is there.
func (w *world) start(t *testing.T) {
	t.Helper()
	p, err := proxy.Start(w.process(w.args...))
	if err != nil {
		t.Fatal(err)
	}
	w.nftproxy = p
	if err := p.WaitSynced(patient(t)); err != nil {
		t.Fatal(err)
	}
}

// stop stops nftproxy with SIGTERM.
func (w *world) stop(t *testing.T) {
	t.Helper()
	if err := w.nftproxy.Stop(); err != nil {
		t.Fatal(err)
	}
}

// run runs another command of nftproxy on the node to its end, which must be a
// good one, and returns what it wrote.
func (w *world) run(t *testing.T, args ...string) string {
	t.Helper()
	out, err := proxy.Run(patient(t), w.process(args...))
	if err != nil {
		t.Fatalf("nftproxy %s: %v\n%s", args, err, out)
	}
	return out
}

// fails runs a command that must end with an exit code, and returns what it wrote.
func (w *world) fails(t *testing.T, code int, args ...string) string {
	t.Helper()
	out, err := proxy.Run(patient(t), w.process(args...))
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != code {
		t.Fatalf("nftproxy %s: %v, want exit code %d\n%s", args, err, code, out)
	}
	return out
}

func (w *world) end(t *testing.T) {
	if w.nftproxy == nil {
		return
	}
	switch log := w.nftproxy.Log(); {
	case t.Failed():
		t.Logf("the log of nftproxy:\n%s\nthe node's connections:\n%s\nneighbours that are not known:\n%s", log, w.trackedText(t), w.neighboursText(t))
	case strings.Contains(log, "The kernel refused"): // some tests want that; elsewhere it should be known
		t.Logf("the kernel refused something:\n%s", log)
	}
	if err := w.nftproxy.Stop(); err != nil {
		t.Error(err)
	}
}

// apply puts services in place and waits until they are programmed.
func (w *world) apply(t *testing.T, services ...*svc) {
	t.Helper()
	for _, s := range services {
		w.put(t, s.objects()...)
	}
	w.programmed(t)
}

// remove removes services and waits until that is programmed.
func (w *world) remove(t *testing.T, services ...*svc) {
	t.Helper()
	for _, s := range services {
		if err := w.manifests.Delete(s.objects()...); err != nil {
			t.Fatal(err)
		}
	}
	w.programmed(t)
}

// put writes objects of any kind and waits for nothing.
func (w *world) put(t *testing.T, objects ...runtime.Object) {
	t.Helper()
	if err := w.manifests.Put(objects...); err != nil {
		t.Fatal(err)
	}
}

// programmed waits until nftproxy has programmed all that was put.
func (w *world) programmed(t *testing.T) {
	t.Helper()
	if err := w.manifests.Programmed(patient(t), w.Node.NS); err != nil {
		t.Fatalf("%v\n%s", err, w.nftproxy.Log())
	}
}

// wantLog waits until the log holds a text.
func (w *world) wantLog(t *testing.T, text string) {
	t.Helper()
	if err := w.nftproxy.WaitLog(patient(t), text); err != nil {
		t.Error(err)
	}
}

// clients are where connections come from: a pod, the node and outside.
func (w *world) clients() []netns.Host { return []netns.Host{w.Client, w.Node, w.Outside} }

// patient returns a context for something that is waited for.
func patient(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// eventually waits until there is no error.
func eventually(t *testing.T, what string, try func() error) {
	t.Helper()
	ctx := patient(t)
	for {
		err := try()
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s did not happen in %v: %v", what, patience, err)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// longer returns contexts for tries, each of which may take twice as long as the one before: what does not come in
// a short time may be lost, or the machine is too busy for any in a short time.
func longer(t *testing.T) func() context.Context {
	t.Helper()
	wait := dropTimeout
	return func() context.Context {
		ctx, cancel := context.WithTimeout(t.Context(), wait)
		t.Cleanup(cancel)
		wait = min(2*wait, patience/8)
		return ctx
	}
}

// metrics returns what nftproxy serves at /metrics.
func (w *world) metrics(t *testing.T) string {
	t.Helper()
	return get(t, w.Node, "127.0.0.1:10249", "/metrics")
}

// get asks an HTTP server and returns its whole answer, with the headers.
func get(t *testing.T, from netns.Host, address, path string) string {
	t.Helper()
	var text []byte
	err := from.Do(func() error {
		// An http.Transport would dial on another thread.
		conn, err := net.DialTimeout("tcp", address, patience)
		if err != nil {
			return err
		}
		defer conn.Close()
		if err = conn.SetDeadline(time.Now().Add(patience)); err != nil { // it may not be an HTTP server at all
			return err
		}
		if _, err = fmt.Fprintf(conn, "GET %s HTTP/1.0\r\n\r\n", path); err != nil {
			return err
		}
		text, err = io.ReadAll(conn)
		return err
	})
	if err != nil {
		return err.Error()
	}
	return string(text)
}
