// SPDX-License-Identifier: Apache-2.0

package manifests

import (
	"encoding/json"
	"fmt"
	"sort"

	"go.yaml.in/yaml/v3"
)

// Limits of one object, against aliases that expand without end. An API server takes 1.5 MiB.
const (
	maxObjectBytes = 16 << 20
	maxObjectDepth = 100
)

type typeError = json.UnmarshalTypeError

// encoder writes a document as JSON, for the decoder of Kubernetes, and remembers which line each value came from.
type encoder struct {
	out   []byte
	marks []mark // by offset
	depth int
}

// mark says where a value starts.
type mark struct {
	offset, line int
	field, outer string // the field that holds the value, and the one around that
}

func (e *encoder) encode(n *yaml.Node) *FileError {
	return e.value(n, "", "")
}

// lineBefore returns the line of the last value that starts before offset, if that is in the field of that name.
// Types that decode themselves (IntOrString, Time) report offsets of their own, which mean nothing here.
func (e *encoder) lineBefore(offset int, field string) (line int, ok bool) {
	i := sort.Search(len(e.marks), func(i int) bool { return e.marks[i].offset >= offset })
	if i == 0 {
		return 0, false
	}
	m := e.marks[i-1]
	return m.line, m.field == field || m.outer == field
}

func (e *encoder) value(n *yaml.Node, field, outer string) *FileError {
	n = follow(n)
	e.depth++
	defer func() { e.depth-- }()
	if len(e.out) > maxObjectBytes || e.depth > maxObjectDepth {
		return &FileError{Line: n.Line, Reason: "the object is too large or too deeply nested"}
	}
	e.marks = append(e.marks, mark{offset: len(e.out), line: n.Line, field: field, outer: outer})
	switch n.Kind {
	case yaml.MappingNode:
		return e.mapping(n, field)
	case yaml.SequenceNode:
		return e.sequence(n, field, outer)
	default:
		return e.scalar(n)
	}
}

func (e *encoder) mapping(n *yaml.Node, field string) *FileError {
	pairs, fault := pairsOf(n)
	if fault != nil {
		return fault
	}
	e.out = append(e.out, '{')
	for i, p := range pairs {
		if i > 0 {
			e.out = append(e.out, ',')
		}
		e.text(p.key.Value)
		e.out = append(e.out, ':')
		if fault := e.value(p.value, p.key.Value, field); fault != nil {
			return fault
		}
	}
	e.out = append(e.out, '}')
	return nil
}

func (e *encoder) sequence(n *yaml.Node, field, outer string) *FileError {
	e.out = append(e.out, '[')
	for i, c := range n.Content {
		if i > 0 {
			e.out = append(e.out, ',')
		}
		if fault := e.value(c, field, outer); fault != nil {
			return fault
		}
	}
	e.out = append(e.out, ']')
	return nil
}

func (e *encoder) scalar(n *yaml.Node) *FileError {
	switch n.ShortTag() {
	case "!!str", "!!timestamp":
		e.text(n.Value)
		return nil
	case "!!null":
		e.out = append(e.out, "null"...)
		return nil
	case "!!bool", "!!int", "!!float":
		var v any
		err := n.Decode(&v)
		var out []byte
		if err == nil {
			out, err = json.Marshal(v)
		}
		if err != nil {
			return &FileError{Line: n.Line, Reason: fmt.Sprintf("%q is not a value: %v", n.Value, err)}
		}
		e.out = append(e.out, out...)
		return nil
	}
	return &FileError{Line: n.Line, Reason: fmt.Sprintf("the tag %s is not supported", n.Tag)}
}

func (e *encoder) text(s string) {
	out, _ := json.Marshal(s) // a string cannot fail
	e.out = append(e.out, out...)
}
