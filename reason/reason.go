// SPDX-License-Identifier: Apache-2.0

package reason

import (
	"cmp"
	"fmt"
)

// Code names a reason. Its zero value is no reason.
type Code uint8

// Given is a reason as it is given, with its text. Its zero value is none.
type Given struct {
	Code Code
	Text string
}

// row is what is known of a reason. Texts have the verbs of package fmt.
type row struct {
	code string // for programs: in lower case, with dashes
	text string
	// brief is the text where what the verbs stand for is not known.
	brief string
	// note is the text in an Event, where that differs; foreign that in an Event about a Service of another namespace, whose
	// readers may not know of the Service that it is about.
	note, foreign string
	// log is the log's message.
	log string
	// event is the reason of the Event that tells of it.
	event string
	// kind is the value of the label kind of metric nftproxy_left_out.
	kind string
}

// String returns the code, such as no-endpoint; nothing for no reason.
func (c Code) String() string { return c.row().code }

func (c Code) row() row {
	if int(c) < len(table) {
		return table[c]
	}
	return row{}
}

// With gives the reason.
func (c Code) With(args ...any) Given { return Given{c, c.Text(args...)} }

// Text says why.
func (c Code) Text(args ...any) string { return fill(c.row().text, args) }

// Brief says why where nothing is known of what it is about.
func (c Code) Brief() string { return c.row().brief }

// Note says why in an Event, to readers who may know of all that it names.
func (c Code) Note(args ...any) string { return fill(cmp.Or(c.row().note, c.row().text), args) }

// ForeignNote says why in an Event whose readers may not know of the Service in another namespace that it is about.
func (c Code) ForeignNote(args ...any) string {
	return fill(cmp.Or(c.row().foreign, c.row().note, c.row().text), args)
}

// Log returns the log's message.
func (c Code) Log() string { return c.row().log }

// Event returns the reason of the Event that tells of it, in CamelCase; nothing if no Event does.
func (c Code) Event() string { return c.row().event }

// Kind returns the value of the label kind of metric nftproxy_left_out; nothing if that does not count it.
func (c Code) Kind() string { return c.row().kind }

func fill(text string, args []any) string {
	if len(args) == 0 {
		return text
	}
	return fmt.Sprintf(text, args...)
}

// MarshalText implements encoding.TextMarshaler.
func (c Code) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler. It fails for what is no code.
func (c *Code) UnmarshalText(text []byte) error {
	for i := range table {
		if table[i].code == string(text) {
			*c = Code(i)
			return nil
		}
	}
	return fmt.Errorf("%q is no code of a reason", text)
}

// All returns all codes, in the order of the list.
func All() []Code {
	var out []Code
	for i := 1; i < len(table); i++ {
		out = append(out, Code(i))
	}
	return out
}
