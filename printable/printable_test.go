// SPDX-License-Identifier: Apache-2.0

package printable

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// TestClean: what a terminal would carry out, or a reader overlook, is escaped.
func TestClean(t *testing.T) {
	for _, tt := range []struct{ name, text, line string }{
		{"plain", "web-1.shop", "web-1.shop"},
		{"letters of other scripts", "Zürich 東京", "Zürich 東京"},
		{"nothing", "", ""},
		{"what is escaped already", `a\x1b\n`, `a\x1b\n`},
		{"blanks that fill a line", "a  b   c d ", `a \x20b \x20\x20c d `},
		{"lines", "a\nb\r\nc\td", `a\nb\r\nc\td`},
		{"escape sequences", "\x1b[2J\x1b]0;x\x07", `\x1b[2J\x1b]0;x\x07`},
		{"NUL and DEL", "\x00\x7f", `\x00\x7f`},
		{"C1", "\u0080\u0085\u009b2J", `\u0080\u0085\u009b2J`},
		{"bytes of C1 that are not UTF-8", "\x9b2J\xff", `\x9b2J\xff`},
		{"half a character", "\xe2\x80", `\xe2\x80`},
		{"half of a surrogate pair", "\xed\xa0\x80", `\xed\xa0\x80`},
		{"an overlong newline", "\xc0\x8a", `\xc0\x8a`},
		{"separators", "\u2028\u2029\u00a0\u3000\u2003", `\u2028\u2029\u00a0\u3000\u2003`},
		{"direction", "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c",
			`\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c`},
		{"no width", "\u200b\u200c\u200d\u2060\ufeff\u00ad\u180e", `\u200b\u200c\u200d\u2060\ufeff\u00ad\u180e`},
		{"drawn as nothing", "\u034f\u115f\u3164\uffa0\ufe0f", `\u034f\u115f\u3164\uffa0\ufe0f`},
		{"tags and private use", "\U000e0001\U000e0100\ue000\U0010ffff", `\U000e0001\U000e0100\ue000\U0010ffff`},
		{"annotations", "\ufff9\ufffb", `\ufff9\ufffb`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := Line(tt.text); got != tt.line {
				t.Errorf("Line(%+q) = %q, want %q", tt.text, got, tt.line)
			}
			if got, want := Word(tt.text), strings.ReplaceAll(tt.line, " ", `\x20`); got != want {
				t.Errorf("Word(%+q) = %q, want %q", tt.text, got, want)
			}
			if got := Is(tt.text); got != (tt.line == tt.text) && !strings.Contains(tt.text, "  ") {
				t.Errorf("Is(%+q) = %v", tt.text, got)
			}
		})
	}
}

// TestAllCharacters: no control, format or direction character passes, whatever Unicode adds.
func TestAllCharacters(t *testing.T) {
	for r := range rune(unicode.MaxRune + 1) {
		got := Line(string(r))
		if !utf8.ValidRune(r) {
			continue
		}
		unseen := unicode.In(r, unicode.C, unicode.Z, unicode.White_Space, unicode.Bidi_Control,
			unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector) && r != ' '
		if seen := got == string(r); seen && unseen || !seen && !unseen && unicode.IsPrint(r) {
			t.Errorf("%U (%q) is shown as %q", r, r, got)
		}
		if again := Line(got); again != got {
			t.Errorf("%U: %q is shown as %q", r, got, again)
		}
	}
}

// TestLength: text is cut between two characters, and says so.
func TestLength(t *testing.T) {
	for _, tt := range []struct {
		text string
		most int
		want string
	}{
		{"abcdefgh", 8, "abcdefgh"},
		{"abcdefghi", 8, "abcde…"},
		{"éééé", 8, "éééé"},
		{"ééééé", 8, "éé…"},
		{"abc\x1bx", 8, `abc\x1bx`},
		{"abc\x1bxy", 8, "abc…"},
		{"ab\u202ex", 8, "ab…"},
	} {
		if got := Cut(tt.text, tt.most); got != tt.want {
			t.Errorf("Cut(%+q, %d) = %q, want %q", tt.text, tt.most, got, tt.want)
		}
	}
	for _, one := range []string{"a", " ", "é", "東", "\n", "\x1b", "\u202e", "\U000e0001", "\xff"} {
		long := strings.Repeat(one, 100_000)
		for name, f := range map[string]func(string) string{"Word": Word, "Line": Line} {
			most := map[string]int{"Word": MaxWord, "Line": MaxLine}[name]
			got := f(long)
			if len(got) > most || len(got) < most-10-len(ellipsis) || !strings.HasSuffix(got, ellipsis) || f(got) != got {
				t.Errorf("%s of many %+q has %d bytes, and its end is %q", name, one, len(got), got[max(0, len(got)-10):])
			}
		}
	}
}

// TestEscaped keeps lines and tabs.
func TestEscaped(t *testing.T) {
	if got, want := Escaped("a  b\tb\x1b\n\tc\u202e\r\n\n"+strings.Repeat("x", 5000)), "a  b\tb\\x1b\n\tc\\u202e\\r\n\n"+strings.Repeat("x", 5000); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// hostile has one of each.
const hostile = "a\"\\\x00\n\r\t\x1b[2J\x7f\u0085\u009b\u00a0\u061c\u200b\u200e\u2028\u202e\u2066\ufeff\ufe0f\U000e0001\U0001f600é"

// TestDocuments: JSON and YAML mean the same as before, and hold nothing that is not shown.
func TestDocuments(t *testing.T) {
	value := map[string]string{"k" + hostile: hostile}
	encoded, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	document := JSON(encoded)
	var got map[string]string
	if err := json.Unmarshal(document, &got); err != nil || got["k"+hostile] != hostile {
		t.Errorf("JSON %s means %q (%v)", document, got, err)
	}
	quoted := YAML([]byte("- \"a\u009b\u202e\U000e0001\U0001f600é\"\n"))
	var list []string
	if err := yaml.Unmarshal(quoted, &list); err != nil || list[0] != "a\u009b\u202e\U000e0001\U0001f600é" {
		t.Errorf("YAML %s means %q (%v)", quoted, list, err)
	}
	for _, d := range []string{string(document), string(quoted), string(JSON([]byte("\"\xff\"\n")))} {
		if !Is(strings.TrimSuffix(d, "\n")) {
			t.Errorf("%+q is not all shown", d)
		}
	}
	if plain := []byte("{\n  \"a\": 1\n}\n"); &JSON(plain)[0] != &plain[0] {
		t.Error("a document without such characters is copied")
	}
}

func FuzzLine(f *testing.F) {
	f.Add(hostile)
	f.Fuzz(func(t *testing.T, s string) {
		for _, got := range []string{Line(s), Word(s), strings.NewReplacer("\n", "", "\t", "").Replace(Escaped(s))} {
			if !Is(got) {
				t.Errorf("%+q is shown as %+q", s, got)
			}
		}
		if Line(Line(s)) != Line(s) || Word(Word(s)) != Word(s) || len(Line(s)) > MaxLine || len(Word(s)) > MaxWord {
			t.Errorf("%+q: %q, %q", s, Line(s), Word(s))
		}
	})
}
