// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing"

	"k8s.io/client-go/rest"
)

// heard is what an Addresses told last.
type heard struct {
	mu   sync.Mutex
	last []netip.AddrPort
}

func (h *heard) tell(list []netip.AddrPort) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.last = list
}

func (h *heard) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return fmt.Sprint(h.last)
}

// TestAPIServersOfConfigurations: the address in a configuration is known before anything is dialled.
func TestAPIServersOfConfigurations(t *testing.T) {
	t.Parallel()
	var a Addresses
	var h heard
	a.Follow(h.tell)
	for _, tt := range []struct{ host, want string }{
		{"https://192.0.2.1:6443", "[192.0.2.1:6443]"},
		{"https://192.0.2.1", "[192.0.2.1:443]"},
		{"http://192.0.2.1", "[192.0.2.1:80]"},
		{"192.0.2.1:8080", "[192.0.2.1:8080]"},
		{"https://[2001:db8::1]:6443/prefix", "[[2001:db8::1]:6443]"},
		{"https://[2001:db8::1]", "[[2001:db8::1]:443]"},
		{"https://[::ffff:192.0.2.1]:6443", "[192.0.2.1:6443]"},
		{"https://localhost:6443", ""}, // whatever it has here
	} {
		a.Use(&rest.Config{Host: tt.host})
		if got := h.String(); got != tt.want && tt.want != "" || got == "[]" {
			t.Errorf("%s: got %s, want %s", tt.host, got, tt.want)
		}
	}
	t.Run("in a pod", func(t *testing.T) {
		var none *Addresses
		config := &rest.Config{Host: "https://10.96.0.1:443"}
		none.Use(config)
		none.Follow(h.tell)
		if config.Dial != nil {
			t.Error("nobody wants to know, but the way to dial has changed")
		}
	})
}

// TestAPIServersDialled: every address that is tried is known before it is connected to, and what a name has had
// before is known no more once it has others.
func TestAPIServersDialled(t *testing.T) {
	t.Parallel()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	at := listener.Addr().(*net.TCPAddr).AddrPort()
	var a Addresses
	var h heard
	a.Follow(h.tell)
	config := &rest.Config{Host: "https://192.0.2.1:6443"}
	a.Use(config)
	conn, err := config.Dial(t.Context(), "tcp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
	want := fmt.Sprintf("[%s 192.0.2.1:6443]", at)
	if got := h.String(); got != want {
		t.Errorf("got %s, want %s", got, want)
	}

	// A name, and a dialler of the configuration's own, which fails.
	before := ""
	config = &rest.Config{Host: "https://192.0.2.1:6443", Dial: func(context.Context, string, string) (net.Conn, error) {
		before = h.String()
		return nil, errors.New("down")
	}}
	a.Use(config)
	if _, err := config.Dial(t.Context(), "tcp", net.JoinHostPort("localhost", "7")); err == nil {
		t.Error("the configuration's own way to dial was not taken")
	}
	loopback := false
	for _, one := range []string{"127.0.0.1:7", "[::1]:7"} {
		loopback = loopback || before == "["+one+" 192.0.2.1:6443]" || before == "[192.0.2.1:6443 "+one+"]"
	}
	if !loopback && before != "[127.0.0.1:7 192.0.2.1:6443 [::1]:7]" {
		t.Errorf("before it was dialled, %s was known", before)
	}
	a.mu.Lock()
	a.put("localhost:7", map[netip.AddrPort]struct{}{netip.MustParseAddrPort("192.0.2.9:7"): {}})
	a.mu.Unlock()
	if got := h.String(); got != "[192.0.2.1:6443 192.0.2.9:7]" {
		t.Errorf("after the name changed: %s", got)
	}
	// A configuration takes the place of another.
	a.Use(&rest.Config{Host: "https://192.0.2.2:6443"})
	if got := h.String(); got != "[192.0.2.2:6443]" {
		t.Errorf("after the configuration changed: %s", got)
	}
}
