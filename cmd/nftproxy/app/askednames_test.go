// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/ask"
	"github.com/nftproxy/nftproxy/cmd/nftproxy/explain"
	"github.com/nftproxy/nftproxy/proxier"
	"github.com/nftproxy/nftproxy/proxier/cluster"
	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/rulestest"
)

// toldNames is an nftproxy that tells what a test puts in.
type toldNames struct {
	events chan ask.Change // what is watched

	mu       sync.Mutex
	services map[string]ask.Service
	node     ask.Node
	away     error // nobody answers
	noWatch  error // watches are refused
	asked    []string
}

func newToldNames() *toldNames {
	return &toldNames{events: make(chan ask.Change), services: map[string]ask.Service{}, node: ask.Node{NodePortAddresses: []string{"172.18.0.2"}}}
}

// set has a Service of namespace default with frontends; none: there is no such Service.
func (s *toldNames) set(name string, frontends ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if delete(s.services, name); len(frontends) > 0 {
		s.services[name] = ask.Service{Namespace: "default", Name: name, Ports: []ask.Port{{Identity: explain.Identity{Port: "p", Protocol: "tcp", Family: "ip"}, Frontends: frontends}}}
	}
}

// be changes what is answered.
func (s *toldNames) be(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

func (s *toldNames) Services(context.Context, ask.Choice) (out []ask.Service, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, "all")
	for _, svc := range s.services {
		out = append(out, svc)
	}
	return out, s.away
}

func (s *toldNames) Service(_ context.Context, _, name string) (ask.Service, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, name)
	svc, ok := s.services[name]
	if s.away == nil && !ok {
		return svc, &ask.Refused{Status: http.StatusNotFound, Text: "there is none"}
	}
	return svc, s.away
}

func (s *toldNames) Node(context.Context) (ask.Node, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.node, s.away
}

func (s *toldNames) Watch(ctx context.Context, fn func(ask.Change) error) error {
	s.mu.Lock()
	err := errors.Join(s.away, s.noWatch)
	s.mu.Unlock()
	if err == nil {
		err = fn(ask.Change{All: true})
	}
	for err == nil {
		select {
		case c, ok := <-s.events:
			if !ok {
				return errors.New("the watch has ended")
			}
			err = fn(c)
		case <-ctx.Done():
			return nil
		}
	}
	return err
}

// names says who is served at an address and a port, by TCP; empty: nobody.
func (n *askedNames) names(at string) string {
	name, ok := n.at(rules.FrontendAt(netip.MustParseAddrPort(at), rules.TCP))
	if !ok {
		return ""
	}
	return name.Name
}

// named says what is wrong with the names of addresses; "" stands for nobody's.
func named(t *testing.T, what string, n *askedNames, want map[string]string) {
	t.Helper()
	synctest.Wait()
	for at, name := range want {
		if got := n.names(at); got != name {
			t.Errorf("%s: at %s is %q, want %q", what, at, got, name)
		}
	}
}

// follow follows the names of a Service, or of all, until the test ends.
func (s *toldNames) follow(t *testing.T, service string) *askedNames {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	n, err := followedNames(ctx, s, service)
	must(t, err)
	return n
}

// TestFollowedNames: names come, change hands and go as the nftproxy that runs tells.
func TestFollowedNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newToldNames()
		s.set("web", "10.96.0.1:80", "30080")
		s.set("other", "10.96.0.2:80")
		n := s.follow(t, "")
		named(t, "at first", n, map[string]string{"10.96.0.1:80": "web", "10.96.0.2:80": "other", "172.18.0.2:30080": "web", "172.18.0.3:30080": "", "127.0.0.1:30080": "", "10.96.0.1:81": ""})
		s.set("web")
		named(t, "before it is told", n, map[string]string{"10.96.0.1:80": "web"})
		s.events <- ask.Change{Services: []string{"default/web"}}
		named(t, "one has gone", n, map[string]string{"10.96.0.1:80": "", "172.18.0.2:30080": "", "10.96.0.2:80": "other"})
		s.set("late", "10.96.0.3:80")
		s.set("other", "10.96.0.4:80")
		s.events <- ask.Change{Services: []string{"default/late", "default/other"}}
		named(t, "one has come, and one changed", n, map[string]string{"10.96.0.3:80": "late", "10.96.0.2:80": "", "10.96.0.4:80": "other"})
		for _, order := range [][]string{{"default/late", "default/heir"}, {"default/heir", "default/late"}} {
			s.set("late", "10.96.0.3:80")
			s.set("heir")
			s.events <- ask.Change{Services: []string{"default/heir", "default/late"}}
			named(t, "as it was", n, map[string]string{"10.96.0.3:80": "late"})
			s.set("late")
			s.set("heir", "10.96.0.3:80")
			s.events <- ask.Change{Services: order}
			named(t, "a frontend changes hands", n, map[string]string{"10.96.0.3:80": "heir"})
		}
		s.set("heir")
		s.set("new", "10.96.0.5:80", "30080")
		s.events <- ask.Change{All: true}
		named(t, "any may have changed", n, map[string]string{"10.96.0.3:80": "", "10.96.0.4:80": "other", "10.96.0.5:80": "new", "172.18.0.2:30080": "new"})
		s.be(func() { s.node.NodePortAddresses = []string{"172.18.0.9"} })
		s.events <- ask.Change{}
		named(t, "the node has another address", n, map[string]string{"172.18.0.2:30080": "", "172.18.0.9:30080": "new"})
	})
}

// TestFollowedNamesOfOne: of one Service only its own changes are asked for; it may come yet, and come again.
func TestFollowedNamesOfOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newToldNames()
		s.set("other", "10.96.0.2:80")
		n := s.follow(t, "default/web")
		named(t, "before it is there", n, map[string]string{"10.96.0.1:80": "", "10.96.0.2:80": ""})
		for range 2 {
			s.set("web", "10.96.0.1:80")
			s.events <- ask.Change{Services: []string{"default/other", "default/web"}}
			named(t, "it has come", n, map[string]string{"10.96.0.1:80": "web", "10.96.0.2:80": ""})
			s.set("web")
			s.events <- ask.Change{Services: []string{"default/web"}}
			named(t, "it has gone", n, map[string]string{"10.96.0.1:80": ""})
		}
		s.set("web", "10.96.0.1:80")
		s.events <- ask.Change{All: true}
		named(t, "any may have changed", n, map[string]string{"10.96.0.1:80": "web"})
		s.be(func() {
			for _, asked := range s.asked {
				if asked != "web" {
					t.Errorf("it asks for %s", asked)
				}
			}
		})
	})
}

// TestFollowedNamesUnwatched: where watches are refused, or end, names are loaded again every 3 s; while nobody answers they stay.
func TestFollowedNamesUnwatched(t *testing.T) {
	for _, service := range []string{"", "default/web"} {
		synctest.Test(t, func(t *testing.T) {
			s := newToldNames()
			s.noWatch = &ask.Refused{Status: http.StatusServiceUnavailable, Text: "8 watch already"}
			s.set("web", "10.96.0.1:80")
			n := s.follow(t, service)
			named(t, "at first", n, map[string]string{"10.96.0.1:80": "web"})
			s.set("web")
			time.Sleep(reloadEach - time.Millisecond)
			named(t, "3 s are not over", n, map[string]string{"10.96.0.1:80": "web"})
			time.Sleep(time.Millisecond)
			named(t, "it has gone", n, map[string]string{"10.96.0.1:80": ""})
			s.set("web", "10.96.0.1:81")
			time.Sleep(reloadEach)
			named(t, "it is back", n, map[string]string{"10.96.0.1:81": "web"})

			s.be(func() { s.away, s.noWatch = errors.New("nobody answers"), nil })
			s.set("web")
			time.Sleep(10 * reloadEach)
			named(t, "nobody answers", n, map[string]string{"10.96.0.1:81": "web"})
			s.be(func() { s.away = nil })
			time.Sleep(reloadEach)
			named(t, "somebody answers again", n, map[string]string{"10.96.0.1:81": ""})
			s.set("web", "10.96.0.1:82")
			s.events <- ask.Change{Services: []string{"default/web"}}
			named(t, "it is watched", n, map[string]string{"10.96.0.1:82": "web"})
			close(s.events)
			s.set("web")
			time.Sleep(reloadEach)
			named(t, "the watch has ended", n, map[string]string{"10.96.0.1:82": ""})
		})
	}
}

// TestFollowedNamesFail: who does not answer at first is no source of names.
func TestFollowedNamesFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newToldNames()
		s.away = errors.New("nobody answers")
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		if _, err := followedNames(ctx, s, ""); !errors.Is(err, s.away) {
			t.Errorf("%v", err)
		}
		if _, err := askedService(ctx, s, "default/web"); !errors.Is(err, s.away) {
			t.Errorf("of one: %v", err)
		}
	})
}

// TestAskedService: where nobody watches, what is older than a second is asked for again.
func TestAskedService(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newToldNames()
		s.set("web", "10.96.0.1:80", "30080")
		n, err := askedService(t.Context(), s, "default/web")
		must(t, err)
		s.set("web", "10.96.0.1:81", "30080")
		s.be(func() { s.node.NodePortAddresses = []string{"172.18.0.9"} })
		time.Sleep(reread)
		named(t, "it is not older", n, map[string]string{"10.96.0.1:80": "web", "172.18.0.2:30080": "web"})
		time.Sleep(time.Millisecond)
		named(t, "it is asked again", n, map[string]string{"10.96.0.1:81": "web", "172.18.0.9:30080": "web"})
		named(t, "what it was", n, map[string]string{"10.96.0.1:80": "", "172.18.0.2:30080": ""})
		s.set("web")
		time.Sleep(2 * reread)
		named(t, "it has gone", n, map[string]string{"10.96.0.1:81": "", "172.18.0.9:30080": ""})
	})
}

// TestAskedNamesOld: an nftproxy that does not say where NodePorts are serves them at all of this node's addresses, for all that is known.
func TestAskedNamesOld(t *testing.T) {
	s := newToldNames()
	s.node.NodePortAddresses = nil
	s.set("web", "30080")
	n, err := askedService(t.Context(), s, "default/web")
	must(t, err)
	for _, a := range interfaceAddrs() {
		if got := n.names(netip.AddrPortFrom(a, 30080).String()); got != "web" && a.Is4() {
			t.Errorf("at %s is %q", a, got)
		}
	}
	if got := n.names("192.0.2.1:30080"); got != "" {
		t.Errorf("elsewhere is %q", got)
	}
}

// TestFollowedNamesAtSocket: the same with an nftproxy that answers at its socket. NodePorts are where it serves them.
func TestFollowedNamesAtSocket(t *testing.T) {
	p := proxier.New(proxier.Config{Cluster: cluster.Config{NodeName: "here", NodeIPs: []netip.Addr{netip.MustParseAddr("172.18.0.2")}}, Kernel: &rulestest.Kernel{}})
	service := func(name, address string, nodePort int32) *corev1.Service {
		return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
			Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeNodePort, ClusterIP: address, Ports: []corev1.ServicePort{{Port: 80, NodePort: nodePort}}}}
	}
	p.ReplaceNodes(nil)
	p.ReplaceServiceCIDRs(nil)
	p.ReplaceServices([]*corev1.Service{service("web", "10.96.0.1", 30080), service("other", "10.96.0.2", 30081)})
	p.ReplaceEndpointSlices(nil)
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	defer func() { cancel(); all.Wait() }()
	all.Go(func() { _ = p.Run(ctx) })
	<-p.Synced()
	path, ready := filepath.Join(t.TempDir(), "x.sock"), make(chan struct{})
	d := &ask.Daemon{Node: "here", Table: "nftproxy", Proxier: p}
	all.Go(func() { _ = d.Serve(ctx, path, func() { close(ready) }) })
	<-ready
	client, err := ask.Dial(ctx, path, "nftproxy")
	must(t, err)
	n, err := followedNames(ctx, client, "")
	must(t, err)
	become := func(what string, want map[string]string) {
		t.Helper()
		for end := time.Now().Add(wholeTest); ; time.Sleep(10 * time.Millisecond) {
			wrong := ""
			for at, name := range want {
				if got := n.names(at); got != name {
					wrong = at + " is " + got
				}
			}
			if wrong == "" {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("%s: %s", what, wrong)
			}
		}
	}
	become("at first", map[string]string{"10.96.0.1:80": "web", "172.18.0.2:30080": "web", "172.18.0.2:30081": "other", "127.0.0.1:30080": "", "172.18.0.3:30080": ""})
	p.DeleteService("default", "web")
	become("it has gone", map[string]string{"10.96.0.1:80": "", "172.18.0.2:30080": "", "10.96.0.2:80": "other"})
	p.UpdateService(service("heir", "10.96.0.1", 30080))
	become("another one has its addresses", map[string]string{"10.96.0.1:80": "heir", "172.18.0.2:30080": "heir"})
}
