// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/nftproxy/nftproxy/rules"
)

// Config says how objects are read, and what is known of this node without them.
type Config struct {
	// NodeName is this node's name, by which local endpoints are known.
	NodeName string
	// NodeExpected says that there should be a Node object of this name: without it load balancers leave this node out.
	NodeExpected bool
	// NodeIPs are this node's primary addresses. Default: the Node object's; if it
	// has none, the first of Addresses.
	NodeIPs []netip.Addr
	// Addresses tells this node's own addresses; nil: they are not known.
	Addresses Addresses
	// NodePorts says where NodePorts are served. Default: at NodeIPs.
	NodePorts NodePortAddresses
	// DetectNodeCIDR takes the Node object's podCIDRs, too, for addresses of pods.
	DetectNodeCIDR bool
	// Scheduler is that of Services without an annotation. Default: round robin.
	Scheduler rules.Scheduler
	// Failover is whether Services without an annotation have failover.
	Failover bool
	// TableSize is that of schedulers that have tables, see rules.Policies; Services may have annotations.
	TableSize uint16
	// MaxSlots is how many slots all Services with weights, tables or counts may take together in each family and
	// traffic policy. Default: DefaultMaxSlots.
	MaxSlots int
	// NoExternalIPs leaves Services' externalIPs out (KEP-5707).
	NoExternalIPs bool
}

// Addresses tells the node's own addresses.
type Addresses interface {
	// Addrs returns all of them, loopback ones included.
	Addrs() []netip.Addr
	// Primary returns, by family, the address by which the node is known where nobody says; it may be none.
	Primary() [2]netip.Addr
	// Changed gets a value when they may have changed.
	Changed() <-chan struct{}
}

// Listener hears of some things at once, in the goroutine of who tells the Cluster, whatever else is being done.
type Listener interface {
	// Changed is called after each change: there is something to Take, or there are Faults.
	Changed()
	// SetNodeEligible says whether load balancers may send connections here. It is no part of Changes: load balancers are
	// told before all lists are in, and while a commit takes long.
	SetNodeEligible(bool)
}

// Cluster holds what the cluster asks for of this node. Its methods may be called from several goroutines.
type Cluster struct {
	config   Config
	listener Listener
	began    time.Time

	mu      sync.Mutex // guards what follows; nothing that may wait is done under it
	store   *store
	listed  lists
	node    nodeState
	pending pending
	backlog Backlog // but for what pending says
	faults  faults
}

// lists says which full lists are in.
type lists struct{ services, slices, nodes, serviceCIDRs bool }

// nodeState is what is known of this node.
type nodeState struct {
	info         nodeInfo
	seen         bool // info is what an object said
	serviceCIDRs map[string][]netip.Prefix
	taken        rules.Node // as it was last taken
}

// New returns a Cluster that has heard of nothing yet.
func New(c Config, l Listener) *Cluster {
	st := newStore()
	for _, f := range rules.Families {
		st.frontends.localhost[f] = c.NodePorts.Localhost(f)
	}
	if c.MaxSlots > 0 {
		st.shares.most = c.MaxSlots
	}
	return &Cluster{config: c, listener: l, began: time.Now(), store: st, pending: newPending(),
		node: nodeState{serviceCIDRs: map[string][]netip.Prefix{}}}
}

// SetAPIServers says at which addresses and ports this node reaches its API server. No Service gets them as a
// load balancer's address, an external IP or a NodePort: the node would lose the API server, and never hear that the
// Service is gone. It may be called at any time, each time with all of them; what others have is taken from them.
func (c *Cluster) SetAPIServers(list []netip.AddrPort) {
	c.mu.Lock()
	news := c.store.setAPIServers(list)
	if news {
		c.pending.causes.add(CauseAPIServer, ObjectName{}, causeChanged)
	}
	c.mu.Unlock()
	if news {
		c.listener.Changed()
	}
}

// APIServers returns what SetAPIServers said, sorted.
func (c *Cluster) APIServers() []netip.AddrPort {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]netip.AddrPort, 0, len(c.store.frontends.apiServers))
	for at := range c.store.frontends.apiServers {
		out = append(out, at)
	}
	slices.SortFunc(out, netip.AddrPort.Compare)
	return out
}

// Missing says what has not come in yet.
type Missing uint8

// What may be missing.
const (
	Nothing      Missing = iota
	List                 // a full list of objects
	NodeObject           // the Node object of this node
	NodeAddress          // an address in its status
	NodePodCIDRs         // podCIDRs in its spec, with Config.DetectNodeCIDR
)

// Missing returns the first thing that has not come in yet.
func (c *Cluster) Missing() Missing {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := &c.node
	switch {
	case c.listed != lists{true, true, true, true}:
		return List
	case !n.seen:
		return NodeObject
	case !n.info.IPs[0].IsValid() && !n.info.IPs[1].IsValid():
		return NodeAddress
	case c.config.DetectNodeCIDR && len(n.info.PodCIDRs) == 0:
		return NodePodCIDRs
	}
	return Nothing
}
