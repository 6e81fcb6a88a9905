// SPDX-License-Identifier: Apache-2.0

package manifests

import (
	"bytes"
	"fmt"
	"math"

	"go.yaml.in/yaml/v3"
)

// What the aliases of a file may expand to. Values of 8 kB can name each other so that they stand for
// gigabytes. What a file uses aliases for, common labels and ports, is about as large as the file.
const (
	freeExpansion   = 1 << 20 // bytes that any file may
	expansionFactor = 10      // and so many times the file's size
	nodeBytes       = 32      // that a value counts for besides its text
)

// expansion counts what the aliases of the documents of one file stand for.
type expansion struct {
	left  int64 // bytes
	known map[*yaml.Node]size
}

// size is what a value takes: written down, and by its aliases. The latter is saturated.
type size struct{ plain, aliased int64 }

func newExpansion(file int) *expansion {
	return &expansion{left: freeExpansion + expansionFactor*int64(file), known: map[*yaml.Node]size{}}
}

// check says whether a document is within what is left, and takes that away.
func (e *expansion) check(root *yaml.Node) *FileError {
	clear(e.known)
	s, fault := e.size(root)
	if fault != nil {
		return fault
	}
	if e.left -= s.aliased; e.left < 0 {
		return &FileError{Line: root.Line, Reason: "its aliases expand to too much: write out what they name, or use fewer"}
	}
	return nil
}

// size returns what a value takes. Each value that has a name is looked at once.
func (e *expansion) size(n *yaml.Node) (size, *FileError) {
	if n.Kind == yaml.AliasNode {
		of, fault := e.size(n.Alias)
		return size{aliased: capped(of.plain, of.aliased)}, fault
	}
	inside := size{plain: -1} // for as long as it is being looked at
	if n.Anchor != "" {
		if s, ok := e.known[n]; ok && s == inside {
			return s, &FileError{Line: n.Line, Reason: fmt.Sprintf("the alias %s stands for something that it is a part of", n.Anchor)}
		} else if ok {
			return s, nil
		}
		e.known[n] = inside
	}
	s := size{plain: nodeBytes + int64(len(n.Value))}
	for _, c := range n.Content {
		of, fault := e.size(c)
		if fault != nil {
			return s, fault
		}
		s = size{capped(s.plain, of.plain), capped(s.aliased, of.aliased)}
	}
	if n.Anchor != "" {
		e.known[n] = s
	}
	return s, nil
}

// capped adds what is not negative.
func capped(a, b int64) int64 {
	if a > math.MaxInt32-b { // no file is allowed as much
		return math.MaxInt32
	}
	return a + b
}

// CheckExpansion refuses a YAML file whose aliases stand for much more than the file's size. Files for
// other readers than this package's are checked with it before they are read.
func CheckExpansion(data []byte) error {
	if !bytes.ContainsRune(data, '&') {
		return nil // nothing has a name
	}
	e := newExpansion(len(data))
	for root, fault := range yamlDocuments(data) {
		if fault == nil {
			fault = e.check(root)
		}
		if fault != nil {
			return fmt.Errorf("line %d: %s", fault.Line, fault.Reason)
		}
	}
	return nil
}
