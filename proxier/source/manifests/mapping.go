// SPDX-License-Identifier: Apache-2.0

package manifests

import (
	"fmt"

	"go.yaml.in/yaml/v3"
)

// maxMerges limits how many mappings merge keys may bring into one, against those that multiply each other.
const maxMerges = 1000

// pair is one entry of a mapping.
type pair struct{ key, value *yaml.Node }

// pairsOf returns the entries of a mapping, with merge keys ("<<") resolved.
func pairsOf(n *yaml.Node) ([]pair, *FileError) {
	m := merger{pairs: make([]pair, 0, len(n.Content)/2), seen: make(map[string]struct{}, len(n.Content)/2)}
	fault := m.add(n)
	return m.pairs, fault
}

// merger collects the entries of a mapping and of those merged into it; what comes first wins.
type merger struct {
	pairs  []pair
	seen   map[string]struct{} // the keys of pairs
	merges int
}

func (m *merger) add(n *yaml.Node) *FileError {
	own := make(map[string]int, len(n.Content)/2)
	var merges []*yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := follow(n.Content[i]), n.Content[i+1]
		if k.Kind != yaml.ScalarNode {
			return &FileError{Line: k.Line, Reason: "a key must be a plain value"}
		}
		if k.ShortTag() == "!!merge" {
			merges = append(merges, merged(v)...)
			continue
		}
		if line, ok := own[k.Value]; ok {
			return &FileError{Line: k.Line, Reason: fmt.Sprintf("field %q is already set in line %d", k.Value, line)}
		}
		own[k.Value] = k.Line
		if _, ok := m.seen[k.Value]; !ok {
			m.seen[k.Value] = struct{}{}
			m.pairs = append(m.pairs, pair{key: k, value: v})
		}
	}
	for _, other := range merges {
		if fault := m.merge(other); fault != nil {
			return fault
		}
	}
	return nil
}

func (m *merger) merge(n *yaml.Node) *FileError {
	m.merges++
	switch {
	case n.Kind != yaml.MappingNode:
		return &FileError{Line: n.Line, Reason: "a merge key must name a mapping or a list of mappings"}
	case m.merges > maxMerges:
		return &FileError{Line: n.Line, Reason: "too many merge keys"}
	}
	return m.add(n)
}

// merged returns what a merge key names.
func merged(n *yaml.Node) []*yaml.Node {
	n = follow(n)
	if n.Kind != yaml.SequenceNode {
		return []*yaml.Node{n}
	}
	nodes := make([]*yaml.Node, 0, len(n.Content))
	for _, c := range n.Content {
		nodes = append(nodes, follow(c))
	}
	return nodes
}
