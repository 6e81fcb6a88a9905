// SPDX-License-Identifier: Apache-2.0

// Package kubeproxytests has what kube-proxy's own unit tests expect, as data; data/README.md says where it is from. Each
// file has a JSON object in each line. Tests replay the files, and list what differs on purpose, each with the reason.
package kubeproxytests

import (
	"compress/gzip"
	"embed"
	"encoding/json"
	"io"
	"maps"
	"net/netip"
	"slices"
	"testing"
)

//go:embed data
var files embed.FS

// Read returns the lines of a file in data, decoded; its name is that without .jsonl or .jsonl.gz.
func Read[T any](t *testing.T, name string) []T {
	t.Helper()
	var reader io.ReadCloser
	reader, err := files.Open("data/" + name + ".jsonl")
	if err != nil {
		if reader, err = files.Open("data/" + name + ".jsonl.gz"); err != nil {
			t.Fatal(err)
		}
		if reader, err = gzip.NewReader(reader); err != nil {
			t.Fatalf("open %s: %v", name, err)
		}
	}
	defer reader.Close()
	var out []T
	for d := json.NewDecoder(reader); ; {
		var line T
		if err := d.Decode(&line); err == io.EOF {
			break
		} else if err != nil {
			t.Fatalf("read line %d of %s: %v", len(out)+1, name, err)
		}
		out = append(out, line)
	}
	if len(out) == 0 {
		t.Errorf("%s is empty", name)
	}
	return out
}

// Flow is a connection, and what becomes of it.
type Flow struct {
	Name, Proto, Verdict string
	Src, Dst             netip.Addr
	Port                 uint16
	Outputs              []struct {
		To   netip.AddrPort
		Masq bool
	}
}

// Object decodes an object of a case, which is of one of the kinds, into what is there for it.
func Object[T any](t *testing.T, name string, data []byte, kinds map[string]T) T {
	t.Helper()
	var kind struct{ Kind string }
	if err := json.Unmarshal(data, &kind); err != nil {
		t.Fatal(err)
	}
	object, ok := kinds[kind.Kind]
	if !ok {
		t.Fatalf("%s has a %s", name, kind.Kind)
	}
	if err := json.Unmarshal(data, object); err != nil {
		t.Fatal(err)
	}
	return object
}

// Purposes lists what differs from kube-proxy on purpose, and why. The key is what a test is called.
type Purposes map[string]string

// Compare compares results with what differs on purpose. A result is how something differs, by what it is called, and empty
// where it does not. Whatever differs has to be in the list, and whatever is in the list has to differ.
func (p Purposes) Compare(t *testing.T, results map[string]string) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(results)) {
		if difference := results[name]; difference != "" && p[name] == "" {
			t.Errorf("%s: %s", name, difference)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(p)) {
		switch difference, ok := results[name]; {
		case !ok:
			t.Errorf("%s: nothing is called so", name)
		case difference == "":
			t.Errorf("%s: nothing differs any more; it was to differ because %s", name, p[name])
		}
	}
}
