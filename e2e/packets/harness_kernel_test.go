// SPDX-License-Identifier: Apache-2.0

//go:build linux

package packets

import (
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/google/nftables"

	"github.com/nftproxy/nftproxy/e2e/netns/netnstest"
	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/kernel"
)

// kernel opens the node's nftables as another program, not nftproxy, would.
func (w *world) kernel(t *testing.T) *kernel.Kernel {
	t.Helper()
	k := w.openKernel(t)
	t.Cleanup(func() { _ = k.Close() })
	return k
}

func (w *world) openKernel(t *testing.T) *kernel.Kernel {
	t.Helper()
	var k *kernel.Kernel
	if err := w.Node.Do(func() (err error) { k, err = kernel.Open(); return err }); err != nil {
		t.Fatal(err)
	}
	return k
}

// state returns what the node's tables hold.
func (w *world) state(t *testing.T) rules.State {
	t.Helper()
	k := w.openKernel(t) // for this once: it is asked again and again
	defer k.Close()
	s, err := k.Read(rules.DefaultTable)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// nft opens the node's nftables for what package kernel does not do.
func (w *world) nft(t *testing.T) *nftables.Conn {
	t.Helper()
	return netnstest.NFTables(t, w.Node.NS)
}

// listRuleset lists the node's rules with the program nft, which must not complain. The lock's table is left out.
func (w *world) listRuleset(t *testing.T) string {
	t.Helper()
	cmd := exec.CommandContext(patient(t), netnstest.Tool(t, "nft"), "list", "ruleset")
	var out []byte
	err := w.Node.Do(func() (err error) { out, err = cmd.CombinedOutput(); return err })
	if err != nil {
		t.Fatalf("nft list ruleset: %v\n%s", err, out)
	}
	return regexp.MustCompile(`(?ms)^table ip nftproxy\S*_lock {.*?^}\n`).ReplaceAllString(string(out), "")
}

// withoutFlags returns a dump without its tables' flags, and without who owns them.
func withoutFlags(dump string) string {
	return regexp.MustCompile(`(?m)^(table .* {)(?: # progname .*)?\n\tflags .*\n\n?`).ReplaceAllString(dump, "$1\n")
}

// loadRuleset loads a script into the node's nftables with the program nft.
func (w *world) loadRuleset(t *testing.T, script string) {
	t.Helper()
	cmd := exec.CommandContext(patient(t), netnstest.Tool(t, "nft"), "-f", "-")
	cmd.Stdin = strings.NewReader(script)
	var out []byte
	err := w.Node.Do(func() (err error) { out, err = cmd.CombinedOutput(); return err })
	if err != nil {
		t.Fatalf("nft -f: %v\n%s", err, out)
	}
}
