// SPDX-License-Identifier: Apache-2.0

//go:build linux

package packets

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/netns/netnstest"
	"github.com/nftproxy/nftproxy/e2e/traffic"
)

// What TestFailoverPicture is told by its environment: the directory that it writes its figures into, and the file of kube-proxy.
const (
	pictureEnv   = "NFTPROXY_FAILOVER_PICTURE"
	kubeProxyEnv = "NFTPROXY_KUBE_PROXY"
)

// The scene: so many connections a second to three endpoints, one of which loses its network; so much later its
// EndpointSlice says that it is not ready, as that of a dead node does after 40 s and some more.
const (
	pictureRate    = 200
	pictureBefore  = 5 * time.Second
	pictureNoticed = 45 * time.Second
	pictureAfter   = 55 * time.Second
	pictureTimeout = 30 * time.Second
)

// TestFailoverPicture: new connections come while a node loses its network. Where failover is on, none takes longer than 3.5 s,
// and those that begin 2 s later take no longer than before. The same without failover and with kube-proxy is written beside it.
// It takes a minute, and is made on demand.
func TestFailoverPicture(t *testing.T) {
	dir := os.Getenv(pictureEnv)
	if dir == "" {
		t.Skip("give a directory in " + pictureEnv)
	}
	t.Run("peers", func(t *testing.T) { losesNode(t, dir) })
	drawConnections(t, dir)
}

// losesNode does so with failover, without, and with kube-proxy, all at once.
func losesNode(t *testing.T, dir string) {
	for name, args := range map[string][]string{"failover": {"--failover"}, "nftproxy": nil} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, config{cluster: netns.Config{RemotePods: 3}, args: args})
			s := w.service("web", only(netns.IPv4), tcpPort()).to(ready(w.RemotePods...))
			w.apply(t, s)
			list := loseNode(t, w.Cluster, s, func() { w.apply(t, s.to(ready(w.RemotePods[:2]...), unready(w.RemotePods[2]))) })
			writeConnections(t, filepath.Join(dir, name+".csv"), list)
			if name != "failover" {
				return
			}
			var before time.Duration
			for _, c := range list {
				switch {
				case c.failed:
					t.Errorf("the connection that began at %v failed", c.began)
				case c.took > 3500*time.Millisecond:
					t.Errorf("the connection that began at %v took %v", c.began, c.took)
				case c.began < -time.Second:
					before = max(before, c.took)
				}
			}
			late := 0
			for _, c := range list {
				if c.began > 2*time.Second && c.took > before+900*time.Millisecond { // it sent its SYN again
					late++
				}
			}
			t.Logf("%d connections took longer than those before, of those that began 2 s after the loss or later: the trials", late)
			if late > 4 { // at 10, 30 and 70 s after an ejection
				t.Errorf("%d connections that began 2 s after the loss took longer than those before", late)
			}
		})
	}
	t.Run("kube-proxy", func(t *testing.T) {
		t.Parallel()
		path := os.Getenv(kubeProxyEnv)
		if path == "" {
			t.Skip("give kube-proxy's file in " + kubeProxyEnv)
		}
		w := &world{Cluster: netnstest.NewCluster(t, netns.Config{RemotePods: 3})}
		serve(t, []uint16{backendPort}, w.RemotePods...)
		s := w.service("web", only(netns.IPv4), tcpPort()).to(ready(w.RemotePods...))
		api := serveAPI(t, w.Node, "127.0.0.1:6443", s)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		cmd := exec.CommandContext(ctx, path, "--master", "http://127.0.0.1:6443", "--proxy-mode", "nftables", "--hostname-override", "node", "--kube-api-content-type", "application/json",
			"--cluster-cidr", netns.ClusterCIDR4, "--conntrack-max-per-core", "0", "--conntrack-tcp-timeout-established", "0", "--conntrack-tcp-timeout-close-wait", "0",
			"--healthz-bind-address", "127.0.0.1:10256", "--metrics-bind-address", "127.0.0.1:10249")
		log, err := os.Create(filepath.Join(dir, "kube-proxy.log"))
		if err != nil {
			t.Fatal(err)
		}
		defer log.Close()
		cmd.Stdout, cmd.Stderr = log, log
		if err := w.Node.Do(cmd.Start); err != nil {
			t.Fatal(err)
		}
		defer func() { cancel(); _ = cmd.Wait() }()
		eventually(t, "an answer through kube-proxy", func() error {
			if r := (traffic.Client{NS: w.Client.NS, Timeout: time.Second}).Connect(t.Context(), traffic.TCP, s.at(netns.IPv4, servicePort)); r.Outcome != traffic.Answered {
				return errors.New(r.String())
			}
			return nil
		})
		list := loseNode(t, w.Cluster, s, func() {
			s.to(ready(w.RemotePods[:2]...), unready(w.RemotePods[2]))
			api.add(s)
		})
		writeConnections(t, filepath.Join(dir, "kube-proxy.csv"), list)
	})
}

// connection is how a connection went.
type connection struct {
	began, took time.Duration // began is from the loss of the node on
	failed      bool
}

// loseNode makes connections all the time while a node loses its network, and returns how they went. noticed is called when
// Kubernetes notices.
func loseNode(t *testing.T, c *netns.Cluster, s *svc, noticed func()) []connection {
	t.Helper()
	start := time.Now()
	lost := make(chan struct{})
	zero := start.Add(pictureBefore)
	go func() {
		defer close(lost)
		<-time.After(pictureBefore)
		silence(t, c.Remote, "", c.RemotePods[2])
		<-time.After(pictureNoticed)
		noticed()
	}()
	var list []connection
	if err := c.Client.Do(func() (err error) {
		list, err = dialAtRate(s.at(netns.IPv4, servicePort), start, zero)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	<-lost
	return list
}

// dialing is a connection that has no answer yet.
type dialing struct {
	at    int // in the list
	began time.Time
}

// dialAtRate makes connections in one thread, as there may be thousands at a time, and closes each when it stands.
func dialAtRate(to netip.AddrPort, start, zero time.Time) (list []connection, err error) {
	poll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	defer unix.Close(poll)
	open := map[int]dialing{}
	end := func(fd int) {
		_ = unix.EpollCtl(poll, unix.EPOLL_CTL_DEL, fd, nil) // a process that is just starting may have it, too
		_ = unix.Close(fd)
		delete(open, fd)
	}
	next := start
	events := make([]unix.EpollEvent, 256)
	for time.Since(start) < pictureBefore+pictureAfter || len(open) > 0 {
		for ; time.Now().After(next) && next.Before(zero.Add(pictureAfter)); next = next.Add(time.Second / pictureRate) {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return nil, err
			}
			_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
			began := time.Now()
			if err := unix.Connect(fd, &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}); err != nil && !errors.Is(err, unix.EINPROGRESS) {
				return nil, err
			}
			open[fd] = dialing{len(list), began}
			list = append(list, connection{began: began.Sub(zero), failed: true})
			if err := unix.EpollCtl(poll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLOUT, Fd: int32(fd)}); err != nil {
				return nil, err
			}
		}
		n, err := unix.EpollWait(poll, events, 2)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return nil, err
		}
		now := time.Now()
		for _, e := range events[:max(n, 0)] {
			fd := int(e.Fd)
			if _, ok := open[fd]; !ok {
				continue
			}
			failed, _ := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
			list[open[fd].at].took, list[open[fd].at].failed = now.Sub(open[fd].began), failed != 0
			end(fd)
		}
		for fd, d := range open {
			if took := now.Sub(d.began); took > pictureTimeout {
				list[d.at].took = took
				end(fd)
			}
		}
	}
	return list, nil
}

// writeConnections writes when connections began, how long they took, and whether they failed.
func writeConnections(t *testing.T, path string, list []connection) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w := csv.NewWriter(f)
	var longest time.Duration
	failed := 0
	_ = w.Write([]string{"began_s", "took_s", "failed"})
	for _, c := range list {
		_ = w.Write([]string{fmt.Sprintf("%.3f", c.began.Seconds()), fmt.Sprintf("%.4f", c.took.Seconds()), strconv.FormatBool(c.failed)})
		if longest = max(longest, c.took); c.failed {
			failed++
		}
	}
	if w.Flush(); w.Error() != nil {
		t.Fatal(w.Error())
	}
	t.Logf("%d connections, the longest took %v, %d failed within %v", len(list), longest, failed, pictureTimeout)
}

// Of the picture: where its axes are, in pixels, and how long they are in seconds.
const (
	pictureWidth, pictureHeight = 840.0, 360.0
	pictureLeft, pictureTop     = 60.0, 40.0
	shortestTook, longestTook   = 1e-4, 30.0
)

// drawConnections draws, for each half second, the longest time that a connection took which began then.
func drawConnections(t *testing.T, dir string) {
	t.Helper()
	x := func(s float64) float64 {
		return pictureLeft + (s+pictureBefore.Seconds())/(pictureBefore+pictureAfter).Seconds()*(pictureWidth-pictureLeft-20)
	}
	y := func(s float64) float64 {
		s = min(max(s, shortestTook), longestTook)
		return pictureTop + math.Log(longestTook/s)/math.Log(longestTook/shortestTook)*(pictureHeight-pictureTop-50)
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %g %g" font-family="sans-serif" font-size="13">`+"\n", pictureWidth, pictureHeight)
	fmt.Fprintf(&b, `<rect width="100%%" height="100%%" fill="#fff"/>`+"\n")
	for _, tick := range []float64{0.0001, 0.001, 0.01, 0.1, 1, 10, 30} {
		fmt.Fprintf(&b, `<line x1="%g" x2="%g" y1="%.1f" y2="%.1f" stroke="#ddd"/><text x="%g" y="%.1f" text-anchor="end">%s</text>`+"\n",
			pictureLeft, pictureWidth-20, y(tick), y(tick), pictureLeft-6, y(tick)+4, time.Duration(tick*1e9))
	}
	for s := 0.0; s <= pictureAfter.Seconds(); s += 10 {
		fmt.Fprintf(&b, `<text x="%.1f" y="%g" text-anchor="middle">%g s</text>`+"\n", x(s), pictureHeight-32, s)
	}
	for at, text := range map[time.Duration]string{0: "a node loses its network", pictureNoticed: "Kubernetes says so"} {
		fmt.Fprintf(&b, `<line x1="%.1f" x2="%.1f" y1="%g" y2="%g" stroke="#888" stroke-dasharray="4 3"/><text x="%.1f" y="%g" fill="#555">%s</text>`+"\n",
			x(at.Seconds()), x(at.Seconds()), pictureTop-8, pictureHeight-50, x(at.Seconds())+4, pictureTop-12, text)
	}
	for i, peer := range []struct{ name, title, color string }{{"kube-proxy", "kube-proxy", "#d55e00"}, {"nftproxy", "nftproxy", "#7f7f7f"},
		{"failover", "nftproxy --failover", "#0072b2"}} {
		longest := longestByTime(t, filepath.Join(dir, peer.name+".csv"))
		if longest == nil {
			continue
		}
		fmt.Fprintf(&b, `<polyline fill="none" stroke="%s" stroke-width="1.8" points="`, peer.color)
		for at, took := range longest {
			fmt.Fprintf(&b, "%.1f,%.1f ", x(float64(at)/2+0.25-pictureBefore.Seconds()), y(took))
		}
		fmt.Fprintf(&b, `"/>`+"\n"+`<rect x="%g" y="%g" width="14" height="4" fill="%s"/><text x="%g" y="%g">%s</text>`+"\n",
			pictureLeft+float64(i)*120, pictureHeight-14, peer.color, pictureLeft+float64(i)*120+20, pictureHeight-8, peer.title)
	}
	fmt.Fprintf(&b, `<text x="%g" y="%g" text-anchor="end" fill="#555">longest connection that began in each half second, 200 a second; 30 s: none</text>`+"\n</svg>\n", pictureWidth-20, pictureHeight-8)
	if err := os.WriteFile(filepath.Join(dir, "failover.svg"), []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}

// longestByTime reads how long connections took at most that began in each half second; nothing if there is no such file.
func longestByTime(t *testing.T, path string) []float64 {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	longest := make([]float64, 2*int((pictureBefore+pictureAfter).Seconds()))
	for _, row := range rows[1:] {
		began, _ := strconv.ParseFloat(row[0], 64)
		took, _ := strconv.ParseFloat(row[1], 64)
		if at := int(2 * (began + pictureBefore.Seconds())); at >= 0 && at < len(longest) {
			longest[at] = max(longest[at], took)
		}
	}
	return longest
}
