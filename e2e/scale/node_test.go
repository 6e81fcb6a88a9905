// SPDX-License-Identifier: Apache-2.0

//go:build linux

package scale

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"testing"
	"time"

	"golang.org/x/time/rate"

	"github.com/nftproxy/nftproxy/conntrack"
	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/traffic"
	"github.com/nftproxy/nftproxy/proxier"
	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/kernel"
)

func TestMain(m *testing.M) {
	if code, yes := acts(); yes {
		os.Exit(code)
	}
	os.Exit(netns.Main(m.Run))
}

// deadline is how long anything may take that is waited for.
const deadline = 2 * time.Minute

// recorder is the kernel of a namespace; it notes what is programmed.
type recorder struct {
	*kernel.Kernel
	applied chan rules.Tx // after each transaction
}

func (r *recorder) Apply(tx rules.Tx) error {
	err := r.Kernel.Apply(tx)
	r.applied <- tx
	return err
}

// node is a namespace, and the proxier that runs in it.
type node struct {
	b      *testing.B
	ns     *netns.NS
	ownNS  bool // made with the node, and closed with it
	kernel *recorder
	flows  *conntrack.Conn // nil: flows are not looked through
	watch  *kernel.Watch

	commitRate rate.Limit             // default: none, to measure one change after the other
	use        func(*proxier.Proxier) // called before it runs; may be nil
	*proxier.Proxier
	stop func()
}

// newNode makes a namespace with nothing in it. It ends with the benchmark.
func newNode(b *testing.B) *node {
	b.Helper()
	ns, err := netns.New("scale")
	if err != nil {
		b.Fatal(err)
	}
	n := newNodeIn(b, ns)
	n.ownNS = true
	return n
}

func newNodeIn(b *testing.B, ns *netns.NS) *node {
	b.Helper()
	n := &node{b: b, ns: ns, commitRate: rate.Inf, kernel: &recorder{applied: make(chan rules.Tx, 1000)}}
	if err := ns.Do(func() (err error) { n.kernel.Kernel, err = kernel.Open(); return err }); err != nil {
		b.Fatal(err)
	}
	return n
}

func (n *node) close() {
	if n.stop != nil {
		n.stop()
	}
	if err := n.kernel.Close(); err != nil {
		n.b.Error(err)
	}
	if n.ownNS {
		if err := n.ns.Close(); err != nil {
			n.b.Error(err)
		}
	}
}

// start runs a proxier that has Nodes and ServiceCIDRs, and waits for the rest.
func (n *node) start() {
	err := n.ns.Do(func() (err error) { n.watch, err = n.kernel.Watch(rules.DefaultTable); return err })
	if err != nil {
		n.b.Fatal(err)
	}
	config := proxier.Config{Kernel: n.kernel, Pace: proxier.Pace{AuditPeriod: -1, CommitRate: n.commitRate},
		Foreign: proxier.Foreign{Changed: n.watch.Changed(), Touched: n.watch.Touched}}
	if n.flows != nil {
		config.Conntrack = n.flows
	}
	config.Cluster.NodeName = "here"
	n.Proxier = proxier.New(config)
	if n.use != nil {
		n.use(n.Proxier)
	}
	n.ReplaceNodes(nil)
	n.ReplaceServiceCIDRs(nil)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- n.Run(ctx) }()
	n.stop = func() {
		cancel()
		if err := <-done; err != nil {
			n.b.Error(err)
		}
		if err := n.watch.Close(); err != nil {
			n.b.Error(err)
		}
		n.stop = nil
	}
}

// transaction waits for the next one.
func (n *node) transaction() rules.Tx {
	n.b.Helper()
	select {
	case tx := <-n.kernel.applied:
		return tx
	case <-time.After(deadline):
		n.b.Fatal("no transaction in time")
		return rules.Tx{}
	}
}

// synced waits until the first lists are programmed.
func (n *node) synced() {
	n.b.Helper()
	select {
	case <-n.Synced():
		if err := n.watch.Join(); err != nil {
			n.b.Fatal(err)
		}
	case <-time.After(deadline):
		n.b.Fatal("not programmed in time")
	}
}

// load programs a whole cluster.
func (n *node) load(s size) {
	n.b.Helper()
	services, slices := s.objects()
	n.start()
	n.ReplaceServices(services)
	n.ReplaceEndpointSlices(slices)
	n.synced()
	n.quiet()
}

// quiet forgets the transactions so far.
func (n *node) quiet() {
	for len(n.kernel.applied) > 0 {
		<-n.kernel.applied
	}
}

// read returns what the kernel holds.
func (n *node) read() rules.State {
	n.b.Helper()
	have, err := n.kernel.Read(rules.DefaultTable)
	if err != nil {
		n.b.Fatal(err)
	}
	return have
}

// floor is the kernel's own time for a state that is sent as one batch, ready
// beforehand, to an empty namespace.
func floor(b *testing.B, s rules.State) time.Duration {
	b.Helper()
	n := newNode(b)
	defer n.close()
	if err := n.kernel.Kernel.Apply(rules.Diff(rules.State{}, s)); err != nil {
		b.Fatal(err)
	}
	return n.kernel.Busy()
}

// backendPort is where the pods of a cluster accept connections.
const backendPort = 8080

// cluster is the network of package netns; a proxier can be started on its node.
type cluster struct {
	*netns.Cluster
	node *node
}

// newCluster makes a cluster with pods on the other node. It ends with the benchmark.
func newCluster(b *testing.B, pods int) cluster {
	b.Helper()
	c, err := netns.NewCluster(netns.Config{RemotePods: pods})
	if err != nil {
		b.Fatal(err)
	}
	var addrs []netip.Addr
	for _, p := range c.RemotePods {
		addrs = append(addrs, p.V4)
	}
	server, err := traffic.Serve(c.Remote.NS, traffic.Endpoints(addrs, []uint16{backendPort}, traffic.TCP)...)
	if err != nil {
		b.Fatal(err)
	}
	n := newNodeIn(b, c.Node.NS)
	b.Cleanup(func() {
		n.close()
		if err := errors.Join(server.Close(), c.Close()); err != nil {
			b.Error(err)
		}
	})
	return cluster{c, n}
}
