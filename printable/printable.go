// SPDX-License-Identifier: Apache-2.0

package printable

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// How long text is at most, in bytes.
const (
	// MaxWord is as long as names in the kernel are; those of Kubernetes have at most 253.
	MaxWord = 255
	// MaxLine is as long as the note of a Kubernetes event may be.
	MaxLine = 1024
)

// ellipsis is the end of text that was cut.
const ellipsis = "…"

// Word returns a name as one word of at most MaxWord bytes. Blanks are escaped, too: no name has any, and with them
// it could be read as a sentence of ours.
func Word(s string) string { return clean(s, MaxWord, noBlanks) }

// Line returns a message as one line of at most MaxLine bytes. Of several blanks in a row all but the first are escaped:
// many would fill a terminal's line, and what follows them would look like one of its own.
func Line(s string) string { return clean(s, MaxLine, singleBlanks) }

// Error returns an error's message as Line does. The errors that are joined in it are divided by semicolons.
func Error(err error) string { return Line(strings.ReplaceAll(err.Error(), "\n", "; ")) }

// Cut returns a message as Line does, of at most so many bytes, which are more than three.
func Cut(s string, most int) string { return clean(s, most, singleBlanks) }

// Is says whether a text can be shown as it is, however long it is.
func Is(s string) bool {
	for _, r := range s {
		if !shown(r) {
			return false
		}
	}
	return utf8.ValidString(s)
}

// Escaped returns text of any length and any number of lines with all else escaped: for writers whose lines cannot be
// mistaken for others.
func Escaped(s string) string {
	var b strings.Builder
	for _, part := range strings.SplitAfter(s, "\n") {
		text, ended := strings.CutSuffix(part, "\n")
		for i, field := range strings.Split(text, "\t") {
			if i > 0 {
				b.WriteByte('\t')
			}
			b.WriteString(clean(field, len(field)*longestEscape+len(ellipsis), allBlanks))
		}
		if ended {
			b.WriteByte('\n')
		}
	}
	return b.String()
}

// Truncated returns the first bytes of a text that is too long, with an ellipsis at its end.
func Truncated(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most-len(ellipsis)], "") + ellipsis
}

// longestEscape is how many bytes one byte of text becomes at most: \x1b.
const longestEscape = 4

// blanks says which blanks are not escaped.
type blanks uint8

const (
	allBlanks    blanks = iota
	singleBlanks        // those that follow no other
	noBlanks
)

// keep says whether a blank is not escaped that follows a byte.
func (k blanks) keep(before byte) bool { return k == allBlanks || k == singleBlanks && before != ' ' }

// clean does what Word, Line and Cut say.
func clean(s string, most int, kept blanks) string {
	if len(s) <= most && plain(s, kept) {
		return s
	}
	var b []byte
	fits := 0 // how much of b leaves room for an ellipsis
	var before byte
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			b = append(b, `\x`...)
			b = append(b, hex[s[i]>>4], hex[s[i]&15])
		case shown(r) && (r != ' ' || kept.keep(before)):
			b = utf8.AppendRune(b, r)
		case r < utf8.RuneSelf:
			b = appendASCII(b, byte(r)) //nolint:gosec // ASCII, by the case
		default:
			b = appendUnicode(b, r)
		}
		if len(b) > most {
			return string(b[:fits]) + ellipsis
		}
		if len(b) <= most-len(ellipsis) {
			fits = len(b)
		}
		i += size
		before = s[i-1]
	}
	return string(b)
}

// plain says whether a text needs no change: the usual case, without an allocation.
func plain(s string, kept blanks) bool {
	var before byte
	for i := range len(s) {
		c := s[i]
		if c < ' ' || c > '~' || c == ' ' && !kept.keep(before) {
			return false
		}
		before = c
	}
	return true
}

// shown says whether a character is seen where it stands and changes nothing around it. Unicode's format
// characters (Cf) are not, nor other separators than the blank, nor what is drawn as nothing.
func shown(r rune) bool {
	if r < utf8.RuneSelf {
		return r >= ' ' && r <= '~'
	}
	return unicode.IsPrint(r) && !unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector)
}

const hex = "0123456789abcdef"

func appendASCII(b []byte, c byte) []byte {
	switch c {
	case '\n':
		return append(b, `\n`...)
	case '\r':
		return append(b, `\r`...)
	case '\t':
		return append(b, `\t`...)
	}
	return append(b, '\\', 'x', hex[c>>4], hex[c&15])
}

// appendUnicode appends \u202e, or \U000e0001 where four digits are too few.
func appendUnicode(b []byte, r rune) []byte {
	digits, escape := 4, `\u`
	if r > 0xffff {
		digits, escape = 8, `\U`
	}
	text := strconv.FormatInt(int64(r), 16)
	b = append(b, escape...)
	b = append(b, strings.Repeat("0", digits-len(text))...)
	return append(b, text...)
}
