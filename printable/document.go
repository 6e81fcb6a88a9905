// SPDX-License-Identifier: Apache-2.0

package printable

import (
	"bytes"
	"unicode/utf16"
	"unicode/utf8"
)

// JSON returns a JSON document with the same values, in which all that a terminal could take for something else is
// escaped. The document is one that was encoded: it has no such characters but in strings.
func JSON(document []byte) []byte {
	return escapeRunes(document, func(b []byte, r rune) []byte {
		if high, low := utf16.EncodeRune(r); high != utf8.RuneError {
			return appendUnicode(appendUnicode(b, high), low)
		}
		return appendUnicode(b, r)
	})
}

// YAML does the same for a YAML document that has all strings with such characters between double quotes.
func YAML(document []byte) []byte { return escapeRunes(document, appendUnicode) }

// escapeRunes escapes what is not shown, but for the ends of lines.
func escapeRunes(document []byte, escape func([]byte, rune) []byte) []byte {
	keep := func(r rune) bool { return r == '\n' || shown(r) }
	if utf8.Valid(document) && bytes.IndexFunc(document, func(r rune) bool { return !keep(r) }) < 0 {
		return document
	}
	out := make([]byte, 0, len(document)+len(document)/8)
	for len(document) > 0 {
		r, size := utf8.DecodeRune(document)
		if keep(r) && !(r == utf8.RuneError && size == 1) {
			out = append(out, document[:size]...)
		} else {
			out = escape(out, r)
		}
		document = document[size:]
	}
	return out
}
