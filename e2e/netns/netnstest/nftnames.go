// SPDX-License-Identifier: Apache-2.0

//go:build linux

package netnstest

import (
	"os"
	"regexp"
	"strconv"
)

// protocols are those that rules name, by the numbers that nft prints for names that it does not know.
func protocols() map[string]int { return map[string]int{"tcp": 6, "udp": 17, "sctp": 132} }

// nameless returns the protocols for which nft has no name on this machine: it takes them from
// /etc/protocols, which small systems lack.
func nameless() map[string]int {
	known, _ := os.ReadFile("/etc/protocols") // none: no name is known
	list := protocols()
	for name := range list {
		if regexp.MustCompile(`(?m)^` + name + `\s`).Match(known) {
			delete(list, name)
		}
	}
	return list
}

// AsListed returns rules in nft's syntax as nft lists them on this machine: with numbers of protocols where it
// knows no names.
func AsListed(text string) string { return asListed(text, nameless()) }

func asListed(text string, list map[string]int) string {
	if len(list) == 0 {
		return text
	}
	// As words of their own, but not those that begin a part of the syntax, such as "tcp dport".
	word := regexp.MustCompile(`(?m)([ \t])(tcp|udp|sctp)( (?:dport|sport|flags|option|reset)\b|[ ,]|$)`)
	for range 2 { // words in a row share the space between them
		text = word.ReplaceAllStringFunc(text, func(s string) string {
			parts := word.FindStringSubmatch(s)
			number, ok := list[parts[2]]
			if !ok || len(parts[3]) > 1 {
				return s
			}
			return parts[1] + strconv.Itoa(number) + parts[3]
		})
	}
	return text
}

// AsListedJSON does the same to a JSON document, as package encoding/json decodes it.
func AsListedJSON(document any) any { return withNumbers(document, nameless()) }

func withNumbers(v any, list map[string]int) any {
	switch v := v.(type) {
	case string:
		if number, ok := list[v]; ok {
			return float64(number)
		}
	case []any:
		for i := range v {
			v[i] = withNumbers(v[i], list)
		}
	case map[string]any:
		for key := range v {
			if key != "protocol" { // a part of the syntax: whose header a field is in
				v[key] = withNumbers(v[key], list)
			}
		}
	}
	return v
}
