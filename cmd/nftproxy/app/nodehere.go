// SPDX-License-Identifier: Apache-2.0

package app

import (
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"

	"github.com/nftproxy/nftproxy/proxier/nodeaddr"
	"github.com/nftproxy/nftproxy/proxier/source"
	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/inspect"
)

// machine tells this machine's addresses if it is the node that is looked at. The Node object
// decides, if there is one with addresses.
type machine struct {
	source.Sink
	*nodeaddr.Watcher
	node      string // its name
	elsewhere atomic.Bool
}

// Addrs implements proxier.Addresses.
func (m *machine) Addrs() []netip.Addr {
	if m.elsewhere.Load() {
		return nil
	}
	return m.Watcher.Addrs()
}

// Primary implements proxier.Addresses.
func (m *machine) Primary() [2]netip.Addr {
	if m.elsewhere.Load() {
		return [2]netip.Addr{}
	}
	return m.Watcher.Primary()
}

// ReplaceNodes implements source.Sink.
func (m *machine) ReplaceNodes(list []*corev1.Node) {
	for _, n := range list {
		m.see(n)
	}
	m.Sink.ReplaceNodes(list)
}

// UpdateNode implements source.Sink.
func (m *machine) UpdateNode(n *corev1.Node) {
	m.see(n)
	m.Sink.UpdateNode(n)
}

// see notes whether a Node is this machine: whether one of its addresses is.
func (m *machine) see(n *corev1.Node) {
	if n.Name != m.node {
		return
	}
	var theirs []netip.Addr
	for _, a := range n.Status.Addresses {
		if addr, err := netip.ParseAddr(a.Address); err == nil {
			theirs = append(theirs, addr.Unmap())
		}
	}
	if len(theirs) > 0 {
		own := m.Watcher.Addrs()
		m.elsewhere.Store(!slices.ContainsFunc(theirs, func(a netip.Addr) bool { return slices.Contains(own, a) }))
	}
}

// isHere says whether this machine is the node, as far as can be told without its Node object: it has
// our tables, or manifests are for it by its name.
func (o *wantOptions) isHere() bool {
	host, err := os.Hostname()
	override := strings.TrimSpace(o.kubeProxy.HostnameOverride)
	if o.running || o.source.manifests != "" && (override == "" || err == nil && strings.EqualFold(override, host)) {
		return true
	}
	i, err := inspect.Open()
	if err != nil {
		return false // not for us to see, or a system that has none
	}
	defer func() { _ = i.Close() }()
	found, err := i.Presence(tableName(o.source.proxyName))
	return err == nil && (found[rules.IPv4].Table || found[rules.IPv6].Table)
}
