// SPDX-License-Identifier: Apache-2.0

package check

import (
	"bufio"
	"cmp"
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/nftproxy/nftproxy/printable"
	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/kernel"
)

// listener is a socket that takes connections or datagrams from other machines.
type listener struct {
	rules.Protocol
	At netip.AddrPort // of an address that is unspecified: at all
}

// nodePorts names NodePorts at which other programs listen: they hear nothing of what comes to the node's addresses.
func (n *Node) nodePorts(r *Report, k *kernel.Kernel) {
	const what = "NodePorts"
	state, err := k.Read(n.Table)
	if err != nil {
		r.warning(what, printable.Error(err))
		return
	}
	served := servedNodePorts(state)
	if len(served) == 0 {
		return
	}
	held := map[string]bool{}
	for _, l := range n.listeners() {
		name, ok := served[rules.NodePort(rules.IPv4, l.Protocol, l.At.Port())]
		if !ok || !l.hears(state) {
			continue
		}
		port := fmt.Sprintf("%d/%s", l.At.Port(), l.Protocol)
		if name != (rules.ServicePortName{}) {
			port += " of " + name.String()
		}
		held[port] = true
	}
	if len(held) == 0 {
		r.ok(what, fmt.Sprintf("%d, and no other program listens at one", len(served)))
		return
	}
	const most = 5
	list := make([]string, 0, len(held))
	for port := range held {
		list = append(list, port)
	}
	slices.Sort(list)
	if more := len(list) - most; more > 0 {
		list = append(list[:most], fmt.Sprintf("and %d more", more))
	}
	r.warning(what, strings.Join(list, ", ")+": another program listens there, too, and hears nothing of what comes to the node's addresses, which goes to the Service; 'ss -lntup' shows which it is: let it listen elsewhere, or give the Service another nodePort")
}

// servedNodePorts returns the NodePorts that tables serve, those of both families as IPv4's, and whose they are as far as that
// is known.
func servedNodePorts(state rules.State) map[rules.Frontend]rules.ServicePortName {
	out := map[rules.Frontend]rules.ServicePortName{}
	for _, t := range state.Tables {
		if t == nil {
			continue
		}
		for id, set := range t.Sets {
			for key, v := range set {
				if !id.Kind.Serves() || !key.Frontend(rules.IPv4).IsNodePort() {
					continue
				}
				at, name := rules.NodePort(rules.IPv4, key.Protocol, key.Port), rules.ParseChainID(v.Goto).Of
				out[at] = cmp.Or(out[at], name)
			}
		}
	}
	return out
}

// hears says whether a listener would hear what comes to NodePorts at the node's addresses.
func (l listener) hears(state rules.State) bool {
	a := l.At.Addr()
	if a.IsLoopback() {
		return false
	}
	t := state.Tables[rules.FamilyOf(a)]
	if a.IsUnspecified() || t == nil {
		return a.IsUnspecified()
	}
	if _, some := t.Sets[rules.SetID{Kind: rules.NodePortIPs}]; !some { // all addresses serve them
		return true
	}
	_, serves := t.Sets[rules.SetID{Kind: rules.NodePortIPs}][rules.Key{Addr: a}]
	return serves
}

// listeners returns those of the calling thread's network namespace. What cannot be read has none.
func (n *Node) listeners() (out []listener) {
	const listening, unconnected = "0A", "07" // of TCP and of UDP, net/tcp_states.h
	for _, f := range []struct {
		file  string
		p     rules.Protocol
		state string
	}{{"tcp", rules.TCP, listening}, {"tcp6", rules.TCP, listening}, {"udp", rules.UDP, unconnected}, {"udp6", rules.UDP, unconnected}} {
		file, err := os.Open(filepath.Join(n.Root, "proc/thread-self/net", f.file))
		if err != nil {
			continue
		}
		for lines := bufio.NewScanner(file); lines.Scan(); {
			fields := strings.Fields(lines.Text())
			if len(fields) < 4 || fields[3] != f.state {
				continue
			}
			if at, ok := parseSocket(fields[1]); ok {
				out = append(out, listener{f.p, at})
			}
		}
		_ = file.Close() // only read
	}
	return out
}

// parseSocket reads an address and port of /proc/net/tcp: words of the address in the machine's order, as hexadecimal numbers.
func parseSocket(text string) (netip.AddrPort, bool) {
	words, portText, _ := strings.Cut(text, ":")
	port, err := strconv.ParseUint(portText, 16, 16)
	var raw []byte
	for len(words) >= 8 && err == nil {
		var word uint64
		word, err = strconv.ParseUint(words[:8], 16, 32)
		raw, words = binary.NativeEndian.AppendUint32(raw, uint32(word)), words[8:]
	}
	addr, ok := netip.AddrFromSlice(raw)
	return netip.AddrPortFrom(addr.Unmap(), uint16(port)), ok && err == nil && words == ""
}
