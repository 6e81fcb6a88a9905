// SPDX-License-Identifier: Apache-2.0

package app

import (
	"encoding/json"
	"strings"
	"testing"

	logsapi "k8s.io/component-base/logs/api/v1"
)

// TestLogStreams: whatever a library logs, a record is printable and has a bound, and in JSON means what it meant.
func TestLogStreams(t *testing.T) {
	object := map[string]any{"msg": "a\x1b[2J\u202e\u009b\x7f", "n": 7.0, "more": []any{"\u2066"}}
	record := func(more string) string {
		object["err"] = more
		text, err := json.Marshal(object)
		must(t, err)
		return string(text) + "\n"
	}
	for _, tt := range []struct{ name, format, record, want string }{
		{"text", logsapi.DefaultLogFormat, "I1 \"a\" err=<\n\tx\x1b[2J\u202e\n >\n", "I1 \"a\" err=<\n\tx\\x1b[2J\\u202e\n >\n"},
		{"text of several values", logsapi.DefaultLogFormat, "I1 \"a\" err=<\n\tx\n\ty\n > k=<\n\tz\n >\n", "I1 \"a\" err=<\n\tx\n\ty\n > k=<\n\tz\n >\n"},
		{"text without values", logsapi.DefaultLogFormat, "W1 a\n" + forged + "\n\n", `W1 a\n` + forged + `\n` + "\n"},
		{"a key in text", logsapi.DefaultLogFormat, "I1 \"a\" k\n" + forged + "=1\n", `I1 "a" k\n` + forged + "=1\n"},
		{"long text", logsapi.DefaultLogFormat, "I1 " + strings.Repeat("\u202e", 100_000) + "\n", ""},
		{"JSON", logsapi.JSONLogFormat, record("\u2028"), ""},
		{"long JSON", logsapi.JSONLogFormat, record(strings.Repeat("\u202e", 100_000)), ""},
		{"no JSON", logsapi.JSONLogFormat, "\x1b" + strings.Repeat("x", 100_000) + "\n", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var w strings.Builder
			stream := logStreams(tt.format).ErrorStream
			switch s := stream.(type) {
			case textLog:
				s.w = &w
				stream = s
			case jsonLog:
				s.w = &w
				stream = s
			}
			n, err := stream.Write([]byte(tt.record))
			must(t, err)
			got := w.String()
			(&hostileNode{node: &node{t: t}}).mustBeSafe(got, true)
			if n != len(tt.record) || len(got) > maxRecord || !strings.HasSuffix(got, "\n") || tt.want != "" && got != tt.want {
				t.Errorf("%d bytes of %d were taken, %d written: %.300q", n, len(tt.record), len(got), got)
			}
			var same map[string]any
			if strings.HasSuffix(tt.name, "JSON") && tt.name != "no JSON" {
				must(t, json.Unmarshal([]byte(got), &same))
				if same["msg"] != object["msg"] && tt.name == "JSON" || same["n"] != 7.0 {
					t.Errorf("it means %v", same)
				}
			}
		})
	}
}
