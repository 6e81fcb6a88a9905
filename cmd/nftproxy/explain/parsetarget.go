// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/nftproxy/nftproxy/proxier"
	"github.com/nftproxy/nftproxy/rules"
)

// Target is what is to be explained: a Service, one of its ports, or an address.
type Target struct {
	Text            string
	Namespace, Name string
	Port            string         // name or number; empty: all
	Frontend        rules.Frontend // of an address; its port is 0 where all are meant
}

// isAddress says whether the target is an address.
func (t Target) isAddress() bool { return t.Frontend.Addr.IsValid() }

// bare says whether it is an address without a port.
func (t Target) bare() bool { return t.isAddress() && t.Frontend.Port == 0 && t.Frontend.Protocol == 0 }

// means says whether the target means a frontend, or all.
func (t Target) means(f rules.Frontend) bool {
	return !t.isAddress() || t.Frontend == f || t.bare() && t.Frontend.Addr == f.Addr
}

// ParseTarget reads NAMESPACE/NAME, NAME, svc/NAME, or a name in DNS such as NAME.NAMESPACE.svc.cluster.local, each with :PORT or
// without, or ADDRESS:PORT/PROTOCOL or ADDRESS. namespace is that of a name alone; empty: there is none.
func ParseTarget(text, namespace string) (Target, error) {
	t := Target{Text: text}
	address, protocol, ok := strings.Cut(text, "/")
	if a, err := netip.ParseAddr(address); err == nil && !ok {
		t.Frontend.Addr = a.Unmap()
		return t, nil
	}
	if at, err := netip.ParseAddrPort(address); err == nil && at.Port() != 0 {
		t.Frontend = rules.Frontend{Addr: at.Addr().Unmap(), Protocol: rules.TCP, Port: at.Port()}
		if !ok {
			return t, nil
		}
		if t.Frontend.Protocol, err = rules.ParseProtocol(protocol); err != nil {
			return t, fmt.Errorf("%q: %w", text, err)
		}
		return t, nil
	}
	name := text
	name, t.Port, _ = strings.Cut(name, ":")
	if t.Namespace, t.Name, ok = strings.Cut(name, "/"); !ok {
		t.Namespace, t.Name = inDNS(name)
	} else if isType(t.Namespace) {
		t.Namespace = ""
	} else {
		namespace = ""
	}
	if t.Namespace = cmp.Or(t.Namespace, namespace); t.Namespace == "" || t.Name == "" || strings.Contains(t.Name, "/") || strings.Contains(t.Namespace, ".") {
		return t, fmt.Errorf("%q is neither NAMESPACE/NAME, NAMESPACE/NAME:PORT nor ADDRESS:PORT/PROTOCOL, such as default/web, default/web:http or 10.96.0.10:80/tcp", text)
	}
	return t, nil
}

// isType says whether a word is how kubectl names Services.
func isType(word string) bool { return slices.Contains([]string{"svc", "service", "services"}, word) }

// inDNS reads NAME, NAME.NAMESPACE, NAME.NAMESPACE.svc and NAME.NAMESPACE.svc.DOMAIN. A name of a Service has no dots. What may be
// meant to be an address is nothing.
func inDNS(text string) (namespace, name string) {
	if strings.Trim(text, "0123456789.") == "" {
		return "", ""
	}
	const parts = 3
	words := strings.SplitN(strings.TrimSuffix(text, "."), ".", parts)
	switch {
	case len(words) == 1:
		return "", words[0]
	case len(words) == parts && words[2] != "svc" && !strings.HasPrefix(words[2], "svc."):
		return "", ""
	}
	return words[1], words[0]
}

// Service returns how the target is written where it is a Service: NAMESPACE/NAME or NAMESPACE/NAME:PORT; else what it was.
func (t Target) Service() string {
	switch {
	case t.isAddress():
		return t.Text
	case t.Port != "":
		return t.Namespace + "/" + t.Name + ":" + t.Port
	}
	return t.Namespace + "/" + t.Name
}

// findBare returns the service ports that have an address.
func findBare(ports []proxier.Port, a netip.Addr) (out []*proxier.Port) {
	for i := range ports {
		p := &ports[i]
		if p.ClusterIP == a || slices.Contains(p.LoadBalancerIPs, a) || slices.Contains(p.ExternalIPs, a) {
			out = append(out, p)
		}
	}
	return out
}

// ownAddress says at the end of a message that an address is this node's.
func ownAddress(own []netip.Addr, a netip.Addr) string {
	if slices.Contains(own, a) {
		return ": it is this node's; for a NodePort give ADDRESS:PORT/PROTOCOL"
	}
	return ""
}
