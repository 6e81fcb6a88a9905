// SPDX-License-Identifier: Apache-2.0

package manifests

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"

	"go.yaml.in/yaml/v3"
)

// jsonDocuments yields the documents of a JSON file, one after the other, until the first syntax error. They look as if they came
// from YAML. (YAML reads most JSON, but not all: not every escape, and no documents without "---" between them.)
func jsonDocuments(data []byte) iter.Seq2[*yaml.Node, *FileError] {
	return func(yield func(*yaml.Node, *FileError) bool) {
		r := jsonReader{decoder: json.NewDecoder(bytes.NewReader(data)), data: data, line: 1}
		r.decoder.UseNumber()
		for {
			n, err := r.value(0)
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				yield(nil, r.fault(err))
				return
			}
			if !yield(n, nil) {
				return
			}
		}
	}
}

// jsonReader counts lines while it reads.
type jsonReader struct {
	decoder *json.Decoder
	data    []byte
	offset  int // up to where lines are counted
	line    int // at offset
}

// lineAt returns the line of an offset that is not before the last one asked for.
func (r *jsonReader) lineAt(offset int) int {
	offset = min(offset, len(r.data))
	if offset > r.offset {
		r.line += bytes.Count(r.data[r.offset:offset], []byte("\n"))
		r.offset = offset
	}
	return r.line
}

func (r *jsonReader) fault(err error) *FileError {
	offset := int(r.decoder.InputOffset())
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		offset = max(offset, int(syntax.Offset))
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return &FileError{Line: r.lineAt(len(bytes.TrimSpace(r.data))), Reason: "unexpected end of file"}
	}
	return &FileError{Line: r.lineAt(offset), Reason: strings.TrimPrefix(err.Error(), "json: ")}
}

// value reads the next value. It returns io.EOF only before the first token of a document.
func (r *jsonReader) value(depth int) (*yaml.Node, error) {
	token, err := r.decoder.Token()
	if err != nil {
		if depth > 0 && errors.Is(err, io.EOF) {
			return nil, io.ErrUnexpectedEOF
		}
		return nil, err
	}
	if depth > maxObjectDepth {
		return nil, fmt.Errorf("nested more than %d deep", maxObjectDepth)
	}
	n := &yaml.Node{Line: r.lineAt(int(r.decoder.InputOffset()))}
	switch t := token.(type) {
	case json.Delim:
		n.Kind = yaml.SequenceNode
		if t == '{' {
			n.Kind = yaml.MappingNode
		}
		return n, r.content(n, depth)
	case json.Number:
		n.Kind, n.Tag, n.Value = yaml.ScalarNode, numberTag(t), t.String()
	case string:
		n.Kind, n.Tag, n.Value, n.Style = yaml.ScalarNode, "!!str", t, yaml.DoubleQuotedStyle
	case bool:
		n.Kind, n.Tag, n.Value = yaml.ScalarNode, "!!bool", fmt.Sprint(t)
	default:
		n.Kind, n.Tag = yaml.ScalarNode, "!!null"
	}
	return n, nil
}

// content reads up to the end of a list or object; the decoder sees to it that keys are strings and delimiters match.
func (r *jsonReader) content(n *yaml.Node, depth int) error {
	for r.decoder.More() {
		c, err := r.value(depth + 1)
		if err != nil {
			return err
		}
		n.Content = append(n.Content, c)
	}
	_, err := r.decoder.Token()
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

func numberTag(n json.Number) string {
	if strings.ContainsAny(n.String(), ".eE") {
		return "!!float"
	}
	return "!!int"
}
