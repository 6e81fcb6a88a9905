// SPDX-License-Identifier: Apache-2.0

package manifests

import (
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// follow returns what an alias stands for, and the content of a document.
func follow(n *yaml.Node) *yaml.Node {
	for range maxObjectDepth {
		switch {
		case n.Kind == yaml.AliasNode:
			n = n.Alias
		case n.Kind == yaml.DocumentNode && len(n.Content) > 0:
			n = n.Content[0]
		default:
			return n
		}
	}
	return n
}

func isNull(n *yaml.Node) bool {
	return n.Kind == 0 || n.Kind == yaml.DocumentNode || n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null"
}

func describe(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.MappingNode:
		return "a mapping"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case isNull(n):
		return "nothing"
	}
	return strconv.Quote(n.Value)
}

// child returns an entry of a mapping, nil if there is none.
func child(n *yaml.Node, name string) (field, value *yaml.Node) {
	pairs, _ := pairsOf(n)
	for _, p := range pairs {
		if p.key.Value == name {
			return p.key, follow(p.value)
		}
	}
	return nil, nil
}

// text returns the string in a field, or "".
func text(n *yaml.Node, name string) string {
	if _, value := child(n, name); value != nil && value.Kind == yaml.ScalarNode && !isNull(value) {
		return value.Value
	}
	return ""
}

// find returns the line of the field at path ("spec.ports[0].port"), or of the nearest one around it that exists.
// Field names with a dot in them are not found, which only blurs the line.
func find(root *yaml.Node, path string) int {
	n, line := follow(root), root.Line
	for _, part := range strings.FieldsFunc(path, func(r rune) bool { return r == '.' || r == '[' || r == ']' }) {
		switch n.Kind {
		case yaml.MappingNode:
			name, value := child(n, part)
			if name == nil {
				return line
			}
			n, line = value, name.Line
		case yaml.SequenceNode:
			i, err := strconv.Atoi(part)
			if err != nil || i < 0 || i >= len(n.Content) {
				return line
			}
			n = follow(n.Content[i])
			line = n.Line
		default:
			return line
		}
	}
	return line
}
