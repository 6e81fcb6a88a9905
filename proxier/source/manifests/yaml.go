// SPDX-License-Identifier: Apache-2.0

package manifests

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
	"sort"
	"strings"

	"go.yaml.in/yaml/v3"
)

// yamlDocuments yields the documents of a YAML file until the first syntax error.
func yamlDocuments(data []byte) iter.Seq2[*yaml.Node, *FileError] {
	return func(yield func(*yaml.Node, *FileError) bool) {
		decoder := yaml.NewDecoder(bytes.NewReader(data))
		for {
			var n yaml.Node
			err := decoder.Decode(&n)
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				yield(nil, yamlFault(data, err))
				return
			}
			if !yield(&n, nil) {
				return
			}
		}
	}
}

// yamlFault finds the line of a syntax error, which the library has in its text only, and not always exactly.
func yamlFault(data []byte, err error) *FileError {
	reason := strings.TrimPrefix(err.Error(), "yaml: ")
	var line int
	if n, _ := fmt.Sscanf(reason, "line %d:", &line); n == 1 {
		_, reason, _ = strings.Cut(reason, ": ")
	}
	if line == 0 {
		return &FileError{Reason: reason}
	}
	if strings.HasPrefix(reason, "did not find expected") {
		line++ // the library counts these from 0
	}
	return &FileError{Line: badLine(data, line), Reason: reason}
}

// badLine finds where a syntax error is. For some errors the library names the line where the surrounding mapping or list starts;
// the text is good up to the line before the error.
func badLine(data []byte, start int) int {
	const search = 200 // lines
	lines := bytes.SplitAfter(bytes.TrimRight(data, "\r\n"), []byte("\n"))
	start = min(start, len(lines))
	first := 0
	for i := range start {
		if bytes.HasPrefix(lines[i], []byte("---")) {
			first = i
		}
	}
	n := min(len(lines), start+search) - start + 1
	// Each step is one more parse of the document, so there must be few.
	i := sort.Search(n, func(i int) bool {
		var n yaml.Node
		return yaml.Unmarshal(bytes.Join(lines[first:start+i], nil), &n) != nil
	})
	if i == n {
		return start
	}
	return start + i
}
