// SPDX-License-Identifier: Apache-2.0

//go:build linux

package cluster

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/netns/netnstest"
	"github.com/nftproxy/nftproxy/e2e/traffic"
)

// rolloutsEnv is how many rolling updates TestRollouts makes of each kind of pod.
const rolloutsEnv = "NFTPROXY_ROLLOUTS"

const (
	rolloutPace    = 20 * time.Millisecond // between two connections of one kind of traffic
	rolloutTimeout = 5 * time.Second       // of a connection
	rolloutBefore  = 3 * time.Second       // of traffic before an update
	// rolloutAfter is of traffic after an update: the last old pods end in it, and slow start does.
	rolloutAfter = 12 * time.Second
	rolloutPods  = 4
	rolloutTries = 3 // of an update, on a busy machine
)

// rolloutScene is what the updated pods are like.
type rolloutScene struct {
	listensAfter   string // their start
	probe, preStop bool   // a readiness probe, a preStop hook of 3 s
	waits          bool   // the update goes on when new pods have been ready for 4 s
}

func rolloutScenes() []rolloutScene {
	return []rolloutScene{
		{listensAfter: "0s"},
		{listensAfter: "0s", preStop: true},
		{listensAfter: "1s", preStop: true},
		{listensAfter: "1s", preStop: true, waits: true},
		{listensAfter: "1s", probe: true},
		{listensAfter: "1s", probe: true, preStop: true},
	}
}

func (c rolloutScene) String() string {
	has := map[bool]string{true: "", false: "no "}
	text := fmt.Sprintf("%sreadiness probe, %spreStop; the server listens after %s", has[c.probe], has[c.preStop], c.listensAfter)
	if c.waits {
		text += "; minReadySeconds: 4"
	}
	return text
}

// manifest is testdata/rollout.yaml with such pods.
func (c rolloutScene) manifest(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile("testdata/rollout.yaml")
	must(t, err)
	edits := []string{"value: LATE", "value: " + c.listensAfter}
	if c.preStop {
		edits = append(edits, "# PRE_STOP", "lifecycle: {preStop: {sleep: {seconds: 3}}}")
	}
	if c.probe {
		edits = append(edits, "# PROBE", "readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}")
	}
	if c.waits {
		edits = append(edits, "# MIN_READY", "minReadySeconds: 4")
	}
	return strings.NewReplacer(edits...).Replace(string(data))
}

// rolloutWay is a kind of traffic, and its connections in one scene.
type rolloutWay struct {
	title    string
	peer     int    // which proxy
	service  string // of testdata/rollout.yaml; empty: to a pod that stays, by its own address
	nodePort bool   // from outside to the NodePort, else from a pod to the ClusterIP
	attempts []rolloutAttempt
}

// rolloutWays are the kinds of traffic. The first one tells what the machine loses whatever proxies and updates do.
func rolloutWays() []*rolloutWay {
	return []*rolloutWay{
		{title: "no Service", peer: 1},
		{title: "kube-proxy", service: "plain"},
		{title: "nftproxy", service: "plain", peer: 1},
		{title: "nftproxy, slow-start: 10s", service: "slow-start", peer: 1},
		{title: "nftproxy, settle: 3s", service: "settle", peer: 1},
		{title: "kube-proxy, NodePort", service: "plain", nodePort: true},
		{title: "nftproxy, NodePort", service: "plain", peer: 1, nodePort: true},
	}
}

// promised tells whether the documentation promises that no such connection fails in a scene.
func (w *rolloutWay) promised(c rolloutScene) bool {
	return w.peer == 1 && c.preStop && (c.probe || c.waits && w.service == "settle")
}

// rollouts are rolling updates of a Deployment on two nodes, one with kube-proxy, one with nftproxy.
type rollouts struct {
	*site
	peers []*failoverPeer
	pods  *podHistory
}

// TestRollouts measures what rolling updates cost connections, with kube-proxy and with nftproxy, for pods of several kinds and
// Services that treat new endpoints differently. The proxies change nodes after each update. It takes three minutes for each
// update of all kinds, and fails only where the documentation promises that nothing fails.
func TestRollouts(t *testing.T) {
	rounds := rolloutRounds(t)
	netnstest.Tool(t, "nft")
	s := newSite(t, 2)
	r := rollouts{site: s, peers: failoverPeers()[:2], pods: s.watchPods("app=web")}
	table := rolloutHead()
	for _, scene := range rolloutScenes() {
		ways := rolloutWays()
		r.open(scene)
		for round := range rounds {
			r.measure(scene, round, ways)
		}
		table += rolloutLine(scene, ways)
		for _, w := range ways {
			w.report(t, scene)
		}
		wantPromised(t, scene, ways)
	}
	t.Log("\n" + table)
	if file := os.Getenv("NFTPROXY_ROLLOUTS_TABLE"); file != "" {
		must(t, os.WriteFile(filepath.Join(repository, file), []byte(table), 0o644))
	}
}

// report says what became of the connections, with examples of those that failed.
func (w *rolloutWay) report(t *testing.T, scene rolloutScene) {
	t.Helper()
	t.Logf("%s: %s: %s", scene, w.title, w.summary())
	list := failed(w.attempts)
	for _, a := range list[:min(len(list), 5)] {
		t.Logf("%s %s", a.at.Format("15:04:05.000"), a)
	}
}

// wantPromised wants that nothing failed that the documentation promises.
func wantPromised(t *testing.T, scene rolloutScene, ways []*rolloutWay) {
	t.Helper()
	if ways[0].outcomes() != "0" {
		t.Log("The machine is too busy to judge: also connections to no Service failed")
		return
	}
	for _, w := range ways {
		if w.promised(scene) && w.outcomes() != "0" {
			t.Errorf("%s: %s: %s, want none", scene, w.title, w.outcomes())
		}
	}
}

// rolloutRounds is what $NFTPROXY_ROLLOUTS says. Without it the test is skipped.
func rolloutRounds(t *testing.T) int {
	t.Helper()
	text := os.Getenv(rolloutsEnv)
	if text == "" {
		t.Skip("it measures, for minutes: run 'make e2e-rollouts'")
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s is %q, want a number of updates", rolloutsEnv, text)
	}
	return n
}

// open has the pods be such as in a scene.
func (r *rollouts) open(scene rolloutScene) {
	r.t.Helper()
	must(r.t, r.Apply(r.t.Context(), scene.manifest(r.t), false))
	r.waitWeb(rolloutPods)
	if r.clients == nil {
		for _, n := range r.Nodes {
			r.clients = append(r.clients, r.client(n.Name()))
		}
	}
}

// node is the index of the node that a peer has in a round.
func (r *rollouts) node(peer, round int) int { return (peer + round) % len(r.peers) }

// measure makes a rolling update with all kinds of traffic, and adds the connections to ways. Where also connections to no
// Service failed the machine was too busy, and it tries again.
func (r *rollouts) measure(scene rolloutScene, round int, ways []*rolloutWay) {
	r.t.Helper()
	var lists [][]rolloutAttempt
	for range rolloutTries {
		lists = r.update(round, ways)
		lost := len(failed(lists[0]))
		if lost == 0 {
			break
		}
		r.t.Logf("%s: %d connections to no Service failed: the machine is busy", scene, lost)
	}
	for i, w := range ways {
		w.attempts = append(w.attempts, lists[i]...)
	}
}

// update starts the proxies and makes a rolling update. It returns the connections of each kind of traffic.
func (r *rollouts) update(round int, ways []*rolloutWay) [][]rolloutAttempt {
	r.t.Helper()
	for peer := range r.peers {
		r.startPeer(peer, r.node(peer, round))
	}
	ctx, stop := context.WithCancel(r.t.Context())
	defer stop()
	var running sync.WaitGroup
	lists := make([][]rolloutAttempt, len(ways))
	for i, w := range ways {
		from, to := r.ends(w, r.node(w.peer, round))
		running.Go(func() { lists[i] = connectEvenly(ctx, from, to) })
	}
	<-time.After(rolloutBefore)
	_, err := r.Client().AppsV1().Deployments(shop).Patch(ctx, "web", types.StrategicMergePatchType, restart(time.Now().String()), metav1.PatchOptions{})
	must(r.t, err)
	r.waitWeb(rolloutPods)
	<-time.After(rolloutAfter)
	stop()
	running.Wait()
	for i, w := range ways {
		r.pods.identify(lists[i], r.destinations(r.Nodes[r.node(w.peer, round)]))
	}
	for _, p := range r.peers {
		p.process.Kill()
	}
	return lists
}

// startPeer starts a proxy on a node that has no rules, and has the kernel note there which endpoint each client's port is sent to.
func (r *rollouts) startPeer(peer, node int) {
	r.t.Helper()
	r.nft(r.Nodes[node], "flush ruleset")
	r.peers[peer].start(r.site, r.Nodes[node], r.clients[node], r.clusterIP("plain"), rolloutPods)
	r.nft(r.Nodes[node], `table ip rollouts {
		set seen { type ipv4_addr . inet_service . ipv4_addr; size 65535; flags dynamic; }
		chain out { type filter hook postrouting priority srcnat - 1
			tcp dport 8080 tcp flags & (syn | ack) == syn add @seen { ip saddr . tcp sport . ip daddr }
		}
	}`)
}

// destinations returns what the kernel of a node has noted.
func (r *rollouts) destinations(n *Node) map[netip.AddrPort]netip.Addr {
	r.t.Helper()
	out := map[netip.AddrPort]netip.Addr{}
	element := regexp.MustCompile(`([0-9.]+) \. ([0-9]+) \. ([0-9.]+)`)
	for _, m := range element.FindAllStringSubmatch(r.nft(n, "list set ip rollouts seen"), -1) {
		client := netip.MustParseAddrPort(m[1] + ":" + m[2])
		out[client] = netip.MustParseAddr(m[3])
	}
	return out
}

// ends are where traffic through the proxy of a node comes from and goes to.
func (r *rollouts) ends(w *rolloutWay, node int) (from netns.Host, to netip.AddrPort) {
	r.t.Helper()
	from = netns.Host{NS: r.clients[node], V4: r.clientAddr(r.Nodes[node])}
	switch {
	case w.nodePort:
		return r.Network.Outside, netip.AddrPortFrom(r.Nodes[node].V4, nodePort)
	case w.service == "":
		other := r.Nodes[(node+1)%len(r.Nodes)]
		return from, netip.AddrPortFrom(r.clientAddr(other), backendPort)
	}
	return from, r.clusterIP(w.service)
}

// connectEvenly makes TCP connections at an even pace until ctx ends.
func connectEvenly(ctx context.Context, from netns.Host, to netip.AddrPort) (list []rolloutAttempt) {
	var mu sync.Mutex
	var running sync.WaitGroup
	client := traffic.Client{NS: from.NS, Source: netip.AddrPortFrom(from.V4, 0), Timeout: rolloutTimeout}
	for next := time.Now(); ctx.Err() == nil; next = next.Add(rolloutPace) {
		<-time.After(time.Until(next))
		running.Go(func() {
			a := rolloutAttempt{at: time.Now()}
			a.Result = client.Connect(context.Background(), traffic.TCP, to)
			mu.Lock()
			defer mu.Unlock()
			list = append(list, a)
		})
	}
	running.Wait()
	return list
}
