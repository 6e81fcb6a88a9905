// SPDX-License-Identifier: Apache-2.0

package manifests

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"

	"go.yaml.in/yaml/v3"
)

// yamlDocuments yields the documents of a YAML file until the first syntax error.
func yamlDocuments(data []byte) iter.Seq2[*yaml.Node, *FileError] {
	return func(yield func(*yaml.Node, *FileError) bool) {
		r := &lineReader{data: data}
		decoder := yaml.NewDecoder(r)
		for {
			var n yaml.Node
			err := decoder.Decode(&n)
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				yield(nil, yamlFault(r, err))
				return
			}
			if !yield(&n, nil) {
				return
			}
		}
	}
}

// yamlFault finds the line of a syntax error. The library has it in its text only, and not always exactly.
func yamlFault(r *lineReader, err error) *FileError {
	reason := strings.TrimPrefix(err.Error(), "yaml: ")
	var line int
	if n, _ := fmt.Sscanf(reason, "line %d:", &line); n == 1 {
		_, reason, _ = strings.Cut(reason, ": ")
	}
	if line == 0 {
		return &FileError{Reason: reason}
	}
	if strings.HasPrefix(reason, "did not find expected") || reason == "found undefined tag handle" {
		line++ // the library counts these from 0
	}
	switch {
	case reason == "did not find expected key", reason == "did not find expected '-' indicator":
		line = r.stoppedAt(line) // the library names the line where the mapping or list starts
	case strings.HasPrefix(reason, "found a tab character"):
		line = r.line() // the library names the line where the text before the tab starts
	}
	return &FileError{Line: min(line, r.lines()), Reason: reason}
}

// lineReader gives the library a file line by line, so that it is known how far the library had read when it found a fault.
type lineReader struct {
	data []byte
	read int // bytes of it
}

// Read implements io.Reader. It returns one line at most.
func (r *lineReader) Read(p []byte) (int, error) {
	rest := r.data[r.read:]
	if len(rest) == 0 {
		return 0, io.EOF
	}
	if i := bytes.IndexByte(rest, '\n'); i >= 0 {
		rest = rest[:i+1]
	}
	n := copy(p, rest)
	r.read += n
	return n, nil
}

// line returns the line that the library read last. A tab that it refuses is there: it reads no line before it comes to its start.
func (r *lineReader) line() int {
	return bytes.Count(bytes.TrimSuffix(r.data[:r.read], []byte("\n")), []byte("\n")) + 1
}

// lines returns how many lines the file has, without empty ones at its end.
func (r *lineReader) lines() int {
	return bytes.Count(bytes.TrimRight(r.data, "\r\n"), []byte("\n")) + 1
}

// wordsAhead is how far the library looks ahead of the word that it looks at.
const wordsAhead = 2

// stoppedAt returns the line at which the library found that the mapping or list that starts in a line is wrong. That is the last
// line with content that it read, unless only the words ahead are in it: then what is before it is wrong by itself.
func (r *lineReader) stoppedAt(start int) int {
	lines := bytes.SplitAfter(r.data[:r.read], []byte("\n"))
	start = min(start, len(lines)) // to the library a line ends with CR, NEL, LS or PS as well
	document := 0
	for i, line := range lines[:start] {
		if bytes.HasPrefix(line, []byte("---")) {
			document = i
		}
	}
	at := lastContent(lines)
	for range wordsAhead {
		before := lastContent(lines[:at-1])
		var n yaml.Node
		if before < start || yaml.Unmarshal(bytes.Join(lines[document:before], nil), &n) == nil {
			break
		}
		at = before
	}
	return max(at, start)
}

// lastContent returns how many lines there are up to the last one that is neither empty nor a comment.
func lastContent(lines [][]byte) int {
	for n := len(lines); n > 1; n-- {
		if text := bytes.TrimSpace(lines[n-1]); len(text) > 0 && text[0] != '#' {
			return n
		}
	}
	return min(1, len(lines))
}
