// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/ask"
	"github.com/nftproxy/nftproxy/rules"
)

// namesFor returns the names of Services as they come and go, until ctx ends: from an nftproxy that is asked, else as liveNames. Where
// one Service is meant, its alone are known.
func (o *worldOptions) namesFor(ctx context.Context, client *ask.Client, service string, stderr io.Writer) (serviceNames, error) {
	if client == nil {
		return o.liveNames(ctx, stderr)
	}
	return followedNames(ctx, client, service)
}

// namesSource is an nftproxy that is asked for names.
type namesSource interface {
	Services(ctx context.Context, of ask.Choice) ([]ask.Service, error)
	Service(ctx context.Context, namespace, name string) (ask.Service, error)
	Node(ctx context.Context) (ask.Node, error)
	Watch(ctx context.Context, fn func(ask.Change) error) error
}

// askedNames knows the frontends of Services as the nftproxy that runs tells them.
type askedNames struct {
	source namesSource
	again  func() error // asks again, where nobody tells of changes; nil: somebody does

	mu     sync.Mutex
	of     map[string]frontends // by namespace/name
	served frontends            // all of them
	own    map[netip.Addr]bool  // addresses that serve NodePorts
	asked  time.Time
}

// frontends are those of a Service. One with the unspecified address is a NodePort, at each address of this node that serves them.
type frontends map[rules.Frontend]rules.ServicePortName

func frontendsOf(s *ask.Service) frontends {
	out := frontends{}
	for i := range s.Ports {
		p := &s.Ports[i]
		protocol, err := rules.ParseProtocol(p.Protocol)
		if err != nil {
			continue
		}
		family := rules.IPv4
		if p.Family == rules.IPv6.String() {
			family = rules.IPv6
		}
		name := rules.ServicePortName{Namespace: s.Namespace, Name: s.Name, Port: p.Port}
		for _, f := range p.Frontends {
			if at, aerr := netip.ParseAddrPort(f); aerr == nil {
				out[rules.FrontendAt(at, protocol)] = name
			} else if port, nerr := strconv.ParseUint(f, 10, 16); nerr == nil {
				out[rules.NodePort(family, protocol, uint16(port))] = name
			}
		}
	}
	return out
}

// put replaces what is known of a Service; nil: it has gone.
func (n *askedNames) put(service string, list frontends) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for f, name := range n.of[service] {
		if n.served[f] == name {
			delete(n.served, f)
		}
	}
	delete(n.of, service)
	if list == nil {
		return
	}
	n.of[service] = list
	for f, name := range list {
		n.served[f] = name
	}
}

// replace replaces all.
func (n *askedNames) replace(list []ask.Service) {
	of, at := map[string]frontends{}, frontends{}
	for i := range list {
		one := frontendsOf(&list[i])
		of[list[i].Namespace+"/"+list[i].Name] = one
		for f, name := range one {
			at[f] = name
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.of, n.served = of, at
}

func (n *askedNames) at(f rules.Frontend) (rules.ServicePortName, bool) {
	n.mu.Lock()
	stale := n.again != nil && time.Since(n.asked) > reread
	if stale {
		n.asked = time.Now()
	}
	n.mu.Unlock()
	if stale {
		_ = n.again() // if nobody answers what is known stays, until it is asked again soon
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if name, ok := n.served[f]; ok {
		return name, true
	}
	name, ok := n.served[f.NodePort()]
	return name, ok && n.own[f.Addr]
}

// askNode asks which addresses of this node serve NodePorts: all, for one that is too old to say so.
func (n *askedNames) askNode(ctx context.Context) error {
	node, err := n.source.Node(ctx)
	if err != nil && !gone(err) {
		return err
	}
	own := map[netip.Addr]bool{}
	for _, text := range node.NodePortAddresses {
		if a, aerr := netip.ParseAddr(text); aerr == nil {
			own[a] = true
		}
	}
	if node.NodePortAddresses == nil {
		for _, a := range interfaceAddrs() {
			own[a] = true
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.own = own
	return nil
}

// interfaceAddrs returns the addresses of the calling thread's network namespace; none, if they cannot be had.
func interfaceAddrs() (out []netip.Addr) {
	list, _ := net.InterfaceAddrs()
	for _, a := range list {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			out = append(out, p.Addr().Unmap())
		}
	}
	return out
}

// newAskedNames returns what knows nothing yet.
func newAskedNames(source namesSource) *askedNames {
	return &askedNames{source: source, of: map[string]frontends{}, served: frontends{}}
}

// askedService returns the names of one Service's ports. It asks for them again when they are old.
func askedService(ctx context.Context, source namesSource, service string) (*askedNames, error) {
	n := newAskedNames(source)
	n.asked, n.again = time.Now(), func() error { return n.load(ctx, service) }
	return n, n.again()
}

// reloadEach is how long after a watch has failed names are loaded again, and another one is begun.
const reloadEach = 3 * time.Second

// followedNames returns the names of a Service's ports, which may come yet, or of all Services', and follows them until ctx ends.
func followedNames(ctx context.Context, source namesSource, service string) (*askedNames, error) {
	n := newAskedNames(source)
	loaded := make(chan error, 1) // what came of the first load
	load := func() error {
		err := n.load(ctx, service)
		if gone(err) { // it may come
			err = nil
		}
		select {
		case loaded <- err:
		default:
		}
		return err
	}
	follow := func() error {
		return source.Watch(ctx, func(c ask.Change) error {
			if c.All { // as at first: what changed before is not known
				return load()
			}
			return n.changed(ctx, service, c.Services)
		})
	}
	go func() { // lasts as long as ctx, which ends with the command
		for ctx.Err() == nil {
			if follow() != nil { // it may have ended, and another one come; or too many watch it
				_ = load()
			}
			select {
			case <-ctx.Done():
			case <-time.After(reloadEach):
			}
		}
	}()
	select {
	case err := <-loaded:
		return n, err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// load asks for a Service, or with an empty name for all, and for the node.
func (n *askedNames) load(ctx context.Context, service string) error {
	if err := n.askNode(ctx); err != nil {
		return err
	}
	if service != "" {
		return n.refresh(ctx, service)
	}
	list, err := n.source.Services(ctx, ask.Choice{})
	if err == nil {
		n.replace(list)
	}
	return err
}

// changed asks for Services that have changed, if they are meant, and for the node, which may have changed, too.
func (n *askedNames) changed(ctx context.Context, service string, list []string) error {
	if err := n.askNode(ctx); err != nil {
		return err
	}
	for _, changed := range list {
		if service != "" && changed != service {
			continue
		}
		if err := n.refresh(ctx, changed); err != nil && !gone(err) {
			return err
		}
	}
	return nil
}

// refresh asks for a Service anew. It fails, too, if that has gone.
func (n *askedNames) refresh(ctx context.Context, service string) error {
	namespace, name, err := parseService(service)
	if err != nil {
		return err
	}
	s, err := n.source.Service(ctx, namespace, name)
	if err == nil {
		n.put(service, frontendsOf(&s))
	} else if gone(err) {
		n.put(service, nil)
	}
	return err
}

// gone says whether an answer means that there is no such Service.
func gone(err error) bool {
	var refused *ask.Refused
	return errors.As(err, &refused) && (refused.Status == http.StatusNotFound || refused.Status == http.StatusGone)
}
