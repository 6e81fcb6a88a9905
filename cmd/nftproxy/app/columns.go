// SPDX-License-Identifier: Apache-2.0

package app

import (
	"io"
	"slices"
	"strings"
	"unicode/utf8"
)

// tableView says how a list is shown.
type tableView struct {
	output    string
	all       bool // of all namespaces
	noHeaders bool
}

// table writes lines whose columns keep their places.
type table struct {
	header []string // none: it is written already, or is not wanted
	spaced bool     // the namespace is the first column
	wide   bool
	plain  int // how many columns there are without the wide ones
	widths []int
}

func (v *tableView) table(l *listing) *table {
	t := &table{spaced: l.spaced && v.all, wide: v.output == "wide", plain: len(l.header)}
	if !v.noHeaders {
		t.header = t.row("NAMESPACE", slices.Concat(l.header, l.wide))
	}
	return t
}

// row returns what is shown of an item's row.
func (t *table) row(namespace string, words []string) (out []string) {
	if t.spaced {
		out = append(out, namespace)
	}
	if !t.wide {
		words = words[:t.plain]
	}
	for _, word := range words {
		if word == "" {
			word = "<none>" // as kubectl writes it
		}
		out = append(out, word)
	}
	return out
}

func (t *table) write(w io.Writer, list []listItem) error {
	var rows [][]string
	if t.header != nil {
		rows, t.header = append(rows, t.header), nil
	}
	for i := range list {
		for _, row := range list[i].rows {
			rows = append(rows, t.row(list[i].namespace, row))
		}
	}
	return writeColumns(w, rows, &t.widths)
}

// writeColumns writes rows; their columns are as wide as need be, and as the widths before.
func writeColumns(w io.Writer, rows [][]string, widths *[]int) error {
	for _, row := range rows {
		for i, word := range row {
			if i == len(*widths) {
				*widths = append(*widths, 0)
			}
			(*widths)[i] = max((*widths)[i], utf8.RuneCountInString(word))
		}
	}
	const gap = 3
	var b strings.Builder
	for _, row := range rows {
		for i, word := range row {
			b.WriteString(word)
			if i < len(row)-1 {
				b.WriteString(strings.Repeat(" ", (*widths)[i]-utf8.RuneCountInString(word)+gap))
			}
		}
		b.WriteByte('\n')
	}
	_, err := io.WriteString(w, b.String())
	return err
}
