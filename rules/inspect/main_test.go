// SPDX-License-Identifier: Apache-2.0

//go:build linux

package inspect

import (
	"errors"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/netns/netnstest"
	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/kernel"
)

func TestMain(m *testing.M) { os.Exit(netns.Main(m.Run)) }

// TestUnprivileged looks in a user namespace, too: there TestAffinityUsage may be skipped.
func TestUnprivileged(t *testing.T) {
	netnstest.AsOrdinaryUser(t, "TestPresence", "TestConnections", "TestBaseChains")
}

// host is a network namespace and an Inspector in it.
type host struct {
	*Inspector
	ns     *netns.NS
	kernel *kernel.Kernel
}

// newHost returns a new, empty namespace.
func newHost(t *testing.T) host {
	t.Helper()
	ns, err := netns.New(t.Name())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closed(t, ns) })
	h := host{ns: ns}
	err = ns.Do(func() (err error) {
		if h.kernel, err = kernel.Open(); err == nil {
			h.Inspector, err = Open()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		closed(t, h)
		closed(t, h.kernel)
	})
	return h
}

func closed(t *testing.T, c io.Closer) {
	t.Helper()
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

// load programs a state.
func (h host) load(t *testing.T, s rules.State) {
	t.Helper()
	have, err := h.kernel.Read(s.Name)
	if err == nil {
		err = h.kernel.Apply(rules.Diff(have, s))
	}
	if errors.Is(err, unix.EPERM) && netns.InUserNamespace() {
		t.Skip("this kernel lets rules of a user namespace write no addresses into packets, which session affinity takes: ", err) // 7.3 is one
	}
	if err != nil {
		t.Fatal(err)
	}
}

// run runs a program in the namespace and returns its output.
func (h host) run(t *testing.T, stdin, path string, args ...string) string {
	t.Helper()
	cmd := exec.Command(path, args...)
	cmd.Stdin = strings.NewReader(stdin)
	var out []byte
	err := h.ns.Do(func() (err error) { out, err = cmd.CombinedOutput(); return err })
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", path, args, err, out)
	}
	return string(out)
}

// nft runs Debian's nft with a script as standard input if it is not empty, and returns its output.
func (h host) nft(t *testing.T, script string, args ...string) string {
	t.Helper()
	if script != "" {
		args = append(args, "-f", "-")
	}
	return h.run(t, script, netnstest.Tool(t, "nft"), args...)
}

// foreign changes the namespace's nftables as another program would.
func (h host) foreign(t *testing.T, change func(*nftables.Conn)) {
	t.Helper()
	c, err := nftables.New(nftables.WithNetNSFd(h.ns.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	change(c)
	if err := c.Flush(); err != nil {
		t.Fatalf("change nftables as another program: %v", err)
	}
}

// address returns an address of the i-th service, or of its j-th endpoint if that is not 0.
func address(f rules.Family, i, j byte) netip.Addr {
	if f == rules.IPv4 {
		return netip.AddrFrom4([4]byte{10, 96, i, j})
	}
	return netip.AddrFrom16([16]byte{0xfd, 13: i, 15: j})
}

// port returns the i-th service port.
func port(f rules.Family, i byte) rules.ServicePort {
	return rules.ServicePort{Name: rules.ServicePortName{Namespace: "shop", Name: "web" + string('0'+rune(i)), Port: "http"},
		Family: f, Protocol: rules.TCP, ClusterIP: address(f, i, 0), Port: 80}
}

// state is what should be there for service ports with so many endpoints each.
func state(c rules.Config, endpoints byte, ports ...rules.ServicePort) rules.State {
	c = c.WithDefaults()
	d := rules.NewDesired(c, rules.Node{})
	for _, sp := range ports {
		var list []rules.Endpoint
		for j := byte(1); j <= endpoints; j++ {
			list = append(list, rules.Endpoint{Addr: netip.AddrPortFrom(address(sp.Family, sp.ClusterIP.AsSlice()[2], j), 8080), Ready: true})
		}
		d.Update([]rules.Owned{{Owner: rules.Owner{ServicePortName: sp.Name, Family: sp.Family}, Objects: rules.Build(sp, list, c, rules.Node{})}})
	}
	return d.State()
}
