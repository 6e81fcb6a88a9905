// SPDX-License-Identifier: Apache-2.0

//go:build linux

package packets

import (
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/google/nftables"

	"github.com/nftproxy/nftproxy/e2e/netns/netnstest"
	"github.com/nftproxy/nftproxy/e2e/traffic"
	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/kernel"
)

// kernel opens the node's nftables as another program, not nftproxy, would.
func (w *world) kernel(t *testing.T) *kernel.Kernel {
	t.Helper()
	var k *kernel.Kernel
	if err := w.Node.Do(func() (err error) { k, err = kernel.Open(); return err }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = k.Close() })
	return k
}

// state returns what the node's tables hold.
func (w *world) state(t *testing.T) rules.State {
	t.Helper()
	s, err := w.kernel(t).Read(rules.DefaultTable)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// nft opens the node's nftables for what package kernel does not do.
func (w *world) nft(t *testing.T) *nftables.Conn {
	t.Helper()
	conn, err := nftables.New(nftables.WithNetNSFd(w.Node.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// listRuleset lists the node's rules with the program nft, which must not complain.
func (w *world) listRuleset(t *testing.T) string {
	t.Helper()
	cmd := exec.CommandContext(patient(t), netnstest.Tool(t, "nft"), "list", "ruleset")
	var out []byte
	err := w.Node.Do(func() (err error) { out, err = cmd.CombinedOutput(); return err })
	if err != nil {
		t.Fatalf("nft list ruleset: %v\n%s", err, out)
	}
	return string(out)
}

// asListed returns a dump as nft lists it here: nft takes the names of protocols from
// /etc/protocols, which small systems lack, and prints numbers without.
func asListed(dump string) string {
	known, _ := os.ReadFile("/etc/protocols") // none: no name is known
	for _, p := range traffic.Protocols() {
		name, number := strings.ToLower(p.String()), strconv.Itoa(int(p))
		if regexp.MustCompile(`(?m)^` + name + `\s`).Match(known) {
			continue
		}
		// As a word of its own; in the name of a chain it is not one.
		dump = regexp.MustCompile(`([ \t])`+name+`([ ,])`).ReplaceAllString(dump, "${1}"+number+"${2}")
		dump = strings.ReplaceAll(dump, "reject with "+number+" ", "reject with "+name+" ")
	}
	return dump
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
