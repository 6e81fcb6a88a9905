// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"

	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/netns/netnstest"
	"github.com/nftproxy/nftproxy/rules"
)

func TestMain(m *testing.M) { os.Exit(netns.Main(m.Run)) }

// TestUnprivileged runs everything in a user namespace, where the send buffer is
// small.
func TestUnprivileged(t *testing.T) {
	netnstest.AsOrdinaryUser(t, "TestModel", "TestStatements", "TestRefused", "TestCutBatches",
		"TestLargeTransaction", "TestWatch", "TestAdoption")
}

// host is a network namespace and the Kernel in it.
type host struct {
	*Kernel
	ns *netns.NS
}

// newHost returns the nftables of a new, empty namespace.
func newHost(t testing.TB) host {
	t.Helper()
	ns, err := netns.New(t.Name())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := ns.Close(); err != nil {
			t.Error(err)
		}
	})
	return host{open(t, ns), ns}
}

// open opens a socket of its own in a namespace.
func open(t testing.TB, ns *netns.NS) *Kernel {
	t.Helper()
	var k *Kernel
	err := ns.Do(func() (err error) { k, err = Open(); return err })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	})
	return k
}

// apply carries operations out that the kernel must accept.
func (h host) apply(t testing.TB, tx rules.Tx) {
	t.Helper()
	if err := h.Apply(tx); err != nil {
		t.Fatal(err)
	}
}

// load brings an empty namespace, or one that holds another state, to a state.
func (h host) load(t testing.TB, s rules.State) {
	t.Helper()
	h.apply(t, rules.Diff(h.read(t, s.Name), s))
}

func (h host) read(t testing.TB, table string) rules.State {
	t.Helper()
	s, err := h.Read(table)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// listing reads a table as it is listed.
func (h host) listing(t testing.TB, table string) rules.State {
	t.Helper()
	s, err := h.ReadListing(table)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// nft runs Debian's nft in the namespace, with a script as standard input if it
// is not empty, and returns its output.
func (h host) nft(t testing.TB, script string, args ...string) string {
	t.Helper()
	stdout, stderr := h.nftWarns(t, script, args...)
	if stderr != "" {
		t.Errorf("nft %s says: %s", strings.Join(args, " "), stderr)
	}
	return stdout
}

// nftWarns does as nft does where it may say something.
func (h host) nftWarns(t testing.TB, script string, args ...string) (out, warnings string) {
	t.Helper()
	path := netnstest.Tool(t, "nft")
	if script != "" {
		args = append(args, "-f", "-")
	}
	cmd := exec.Command(path, args...)
	cmd.Stdin = strings.NewReader(script)
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := h.ns.Do(cmd.Run); err != nil {
		t.Fatalf("nft %s: %v\n%s%s", strings.Join(args, " "), err, &stderr, numbered(script))
	}
	return stdout.String(), stderr.String()
}

// foreign changes the namespace's nftables as another program would.
func (h host) foreign(t testing.TB, change func(*nftables.Conn)) {
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

// tableIP4 is our table for IPv4 as package nftables names it.
func tableIP4() *nftables.Table {
	return &nftables.Table{Name: rules.DefaultTable, Family: nftables.TableFamilyIPv4}
}

func dropVerdict() *expr.Verdict { return &expr.Verdict{Kind: expr.VerdictDrop} }

// must is for errors that only a wrong test can cause.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

// jump adds a rule to a chain of ours that jumps to another.
func jump(c *nftables.Conn, from, to string) {
	c.AddRule(&nftables.Rule{Table: tableIP4(), Chain: &nftables.Chain{Name: from},
		Exprs: []expr.Any{&expr.Verdict{Kind: expr.VerdictJump, Chain: to}}})
}
