// SPDX-License-Identifier: Apache-2.0

package app

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"strings"

	logsapi "k8s.io/component-base/logs/api/v1"

	"github.com/nftproxy/nftproxy/printable"
)

// maxRecord is how long a record of the log may be, in bytes. What nftproxy itself logs of others' text is shorter;
// libraries log what they like.
const maxRecord = 16 << 10

// logStreams returns where the log of a format goes: to where it goes without, made printable.
func logStreams(format string) *logsapi.LoggingOptions {
	if format == logsapi.JSONLogFormat {
		return &logsapi.LoggingOptions{ErrorStream: jsonLog{os.Stderr}, InfoStream: jsonLog{os.Stdout}}
	}
	return &logsapi.LoggingOptions{ErrorStream: textLog{os.Stderr}, InfoStream: textLog{os.Stdout}}
}

// textLog and jsonLog make records printable. The loggers write each with one call.
type (
	textLog struct{ w io.Writer }
	jsonLog struct{ w io.Writer }
)

// Write implements io.Writer.
func (l textLog) Write(record []byte) (int, error) { return writeRecord(l.w, record, textRecord) }

// Write implements io.Writer.
func (l jsonLog) Write(record []byte) (int, error) { return writeRecord(l.w, record, jsonRecord) }

func writeRecord(w io.Writer, record []byte, change func([]byte) []byte) (int, error) {
	if _, err := w.Write(change(record)); err != nil {
		return 0, err
	}
	return len(record), nil
}

// textRecord cuts a record of the text format and escapes what is in it. The format indents the lines of a value that
// has several, so that none looks like a record; those of keys, and of what libraries log without values, it does not: they
// become one line.
func textRecord(record []byte) []byte {
	var b strings.Builder
	for i, line := range strings.Split(strings.TrimSuffix(string(record), "\n"), "\n") {
		switch {
		case i == 0:
		case strings.HasPrefix(line, "\t"), line == " >", strings.HasPrefix(line, " > "):
			b.WriteByte('\n')
		default:
			b.WriteString(`\n`)
		}
		b.WriteString(printable.Escaped(line))
	}
	b.WriteByte('\n')
	text := b.String()
	if len(text) > maxRecord {
		text = printable.Truncated(text, maxRecord-1) + "\n"
	}
	return []byte(text)
}

// jsonRecord does the same in JSON: the record means what it meant, but for strings that make it too long.
func jsonRecord(record []byte) []byte {
	if text := printable.JSON(record); len(text) <= maxRecord {
		return text
	}
	var values map[string]any
	decoder := json.NewDecoder(bytes.NewReader(record))
	decoder.UseNumber()
	if decoder.Decode(&values) != nil {
		return textRecord(record)
	}
	for key, value := range values {
		switch value := value.(type) {
		case string:
			values[key] = printable.Line(value)
		case json.Number, bool, nil:
		default:
			text, _ := json.Marshal(value) // it was decoded
			values[key] = printable.Line(string(text))
		}
	}
	text, err := json.Marshal(values)
	if err != nil {
		return textRecord(record)
	}
	return append(printable.JSON(text), '\n')
}
