// SPDX-License-Identifier: Apache-2.0

//go:build linux

package ui

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/ask"
	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/netns/netnstest"
	"github.com/nftproxy/nftproxy/e2e/proxy"
	"github.com/nftproxy/nftproxy/e2e/traffic"
)

// stage is a node with a running nftproxy and traffic.
type stage struct {
	*netns.Cluster
	t         *testing.T
	manifests proxy.Manifests
	socket    string
	program   string // by this name processes are known
	proxy     *proxy.Process
}

// newStage makes a node, and pods that answer at port 8080.
func newStage(t *testing.T) *stage {
	t.Helper()
	needsChromium(t)
	s := &stage{t: t, Cluster: netnstest.NewCluster(t, netns.Config{LocalPods: 3, RemotePods: 5})}
	hosts := map[*netns.NS][]netip.Addr{}
	for _, h := range slices.Concat(s.Local, s.RemotePods) {
		hosts[h.NS] = append(hosts[h.NS], h.V4, h.V6)
	}
	for ns, addrs := range hosts {
		server, err := traffic.Serve(ns, traffic.Endpoints(addrs, []uint16{8080, 5353}, traffic.TCP, traffic.UDP)...)
		must(t, err)
		t.Cleanup(func() { must(t, server.Close()) })
	}
	s.manifests.Dir = t.TempDir()
	must(t, os.CopyFS(s.manifests.Dir, os.DirFS("testdata/manifests")))
	s.socket = filepath.Join(t.TempDir(), "TABLE.sock")
	s.program = filepath.Join(t.TempDir(), "nftproxy")
	must(t, os.Symlink("/proc/self/exe", s.program))
	s.start()
	return s
}

// start starts nftproxy, which ends with the stage.
func (s *stage) start() {
	t := s.t
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*netns.Patience())
	defer cancel()
	var err error
	s.proxy, err = proxy.Start(s.command("run", "-v=1", "--manifests", s.manifests.Dir, "--hostname-override", "node", "--service-metrics", "--own-tables=never",
		"--cluster-cidr", netns.ClusterCIDR4+","+netns.ClusterCIDR6))
	must(t, err)
	t.Cleanup(s.proxy.Kill)
	must(t, errors.Join(s.proxy.WaitSynced(ctx), s.proxy.WaitLog(ctx, "Commands can ask")))
}

func (s *stage) command(args ...string) proxy.Config {
	return proxy.Config{Program: s.program, Args: append(args, "--socket", s.socket), Env: []string{runEnv + "=1"}, NS: s.Node.NS}
}

// api asks the nftproxy of the node, past the page.
func (s *stage) api() http.RoundTripper { return ask.Transport(ask.Path(s.socket, "nftproxy")) }

// ui runs `nftproxy ui` on the node, and returns the page's address, which leads there from this network namespace, too.
func (s *stage) ui(t *testing.T) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*netns.Patience())
	defer cancel()
	for {
		p, err := proxy.Start(s.command("ui"))
		must(t, err)
		t.Cleanup(p.Kill)
		must(t, p.WaitLog(ctx, "Ctrl-C"))
		address := regexp.MustCompile(`http://\S+/`).FindString(p.Log())
		u, err := url.Parse(address)
		if err != nil || u.Host == "" {
			t.Fatalf("ui says %q", p.Log())
		}
		l, err := net.Listen("tcp", u.Host)
		switch {
		case err == nil:
			forward(t, s.Node.NS, l)
			return address
		case !errors.Is(err, syscall.EADDRINUSE): // here somebody else has the port that was free there
			t.Fatal(err)
		}
		p.Kill()
	}
}

// forward leads an address of loopback to the same in a namespace.
func forward(t *testing.T, ns *netns.NS, l net.Listener) {
	t.Helper()
	var all sync.WaitGroup
	var mu sync.Mutex
	open := map[net.Conn]bool{}
	t.Cleanup(func() {
		_ = l.Close()
		mu.Lock()
		for c := range open {
			_ = c.Close()
		}
		mu.Unlock()
		all.Wait()
	})
	all.Go(func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			var far net.Conn
			if err := ns.Do(func() (err error) { far, err = net.Dial("tcp", l.Addr().String()); return err }); err != nil {
				_ = near.Close()
				continue
			}
			mu.Lock()
			open[near], open[far] = true, true
			mu.Unlock()
			for _, way := range [][2]net.Conn{{near, far}, {far, near}} {
				all.Go(func() {
					_, _ = io.Copy(way[0], way[1])
					_ = near.Close()
					_ = far.Close()
					mu.Lock()
					delete(open, near)
					delete(open, far)
					mu.Unlock()
				})
			}
		}
	})
}

// connect makes new connections from the client pod to an address, until the test ends.
func (s *stage) connect(t *testing.T, to string, pace time.Duration) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	done.Go(func() {
		tick := time.NewTicker(pace)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			client := traffic.Client{NS: s.Client.NS, Timeout: time.Second}
			client.Connect(ctx, traffic.TCP, netip.MustParseAddrPort(to))
		}
	})
	t.Cleanup(func() { cancel(); done.Wait() })
}

// get asks a path.
func get[V any](t *testing.T, api http.RoundTripper, path string) (v V) {
	t.Helper()
	answer, err := (&http.Client{Transport: api}).Get("http://nftproxy" + path)
	must(t, err)
	defer answer.Body.Close()
	must(t, json.NewDecoder(answer.Body).Decode(&v))
	return v
}
