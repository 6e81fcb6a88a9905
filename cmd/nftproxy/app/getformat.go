// SPDX-License-Identifier: Apache-2.0

package app

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"k8s.io/client-go/util/jsonpath"
	"sigs.k8s.io/yaml"

	"github.com/nftproxy/nftproxy/printable"
)

// items is a list as documents have it.
type items struct {
	Items []any `json:"items"`
}

// printer returns what writes a list in the format that is asked for. alone says that it is one item, no list.
// k8s.io/cli-runtime does the same for objects of an API, which these are not; its PrintFlags would make the program 50 MB large instead
// of 29, and custom-columns is kubectl's own.
func (v *tableView) printer(l *listing, alone bool) (func(io.Writer, []listItem) error, error) {
	format, argument, has := strings.Cut(v.output, "=")
	document := func(list []listItem) any {
		if alone && len(list) == 1 {
			return list[0].item
		}
		out := items{[]any{}}
		for i := range list {
			out.Items = append(out.Items, list[i].item)
		}
		return out
	}
	switch {
	case format == "" && !has, format == "wide" && !has:
		return v.table(l).write, nil
	case format == "json" && !has:
		return func(w io.Writer, list []listItem) error { return writeJSON(w, document(list)) }, nil
	case format == "yaml" && !has:
		return func(w io.Writer, list []listItem) error {
			text, err := yaml.Marshal(document(list))
			if err == nil {
				_, err = w.Write(printable.YAML(text))
			}
			return err
		}, nil
	case format == "name" && !has:
		if l.names[0] != "services" {
			return nil, fmt.Errorf("--output: %s have no names", l.names[0])
		}
		return writeNames, nil
	case format == "jsonpath":
		template, err := pathOf(argument)
		if err != nil {
			return nil, fmt.Errorf("--output: %w", err)
		}
		return func(w io.Writer, list []listItem) error {
			text, err := template.of(document(list))
			if err == nil {
				_, err = w.Write(printable.YAML([]byte(text))) // which may have lines
			}
			return err
		}, nil
	case format == "custom-columns":
		return v.customColumns(argument)
	}
	return nil, fmt.Errorf("--output: %q is none of wide, json, yaml, name, jsonpath=TEMPLATE, custom-columns=HEADER:PATH", v.output)
}

func writeNames(w io.Writer, list []listItem) error {
	for i := range list {
		if _, err := fmt.Fprintln(w, list[i].name); err != nil {
			return err
		}
	}
	return nil
}

// customColumns reads HEADER:PATH,...
func (v *tableView) customColumns(text string) (func(io.Writer, []listItem) error, error) {
	var header []string
	var paths []*template
	for column := range strings.SplitSeq(text, ",") {
		name, path, ok := strings.Cut(column, ":")
		if !ok || name == "" || path == "" {
			return nil, fmt.Errorf("--output: custom-columns: %q is not HEADER:PATH, such as NAME:.name", column)
		}
		p, err := pathOf(relaxed(path))
		if err != nil {
			return nil, fmt.Errorf("--output: custom-columns: %w", err)
		}
		header, paths = append(header, name), append(paths, p)
	}
	return func(w io.Writer, list []listItem) error {
		var rows [][]string
		if !v.noHeaders {
			rows = append(rows, header)
		}
		for i := range list {
			row := make([]string, len(paths))
			for j, p := range paths {
				text, err := p.of(list[i].item)
				if err != nil {
					return err
				}
				row[j] = cmp.Or(printable.Line(text), "<none>")
			}
			rows = append(rows, row)
		}
		var widths []int
		return writeColumns(w, rows, &widths)
	}, nil
}

// relaxed makes a path that may lack its braces and its dot a template, as kubectl does.
func relaxed(path string) string {
	path = strings.TrimSuffix(strings.TrimPrefix(path, "{"), "}")
	return "{." + strings.TrimPrefix(path, ".") + "}"
}

// template is a JSONPath template.
type template struct{ *jsonpath.JSONPath }

func pathOf(text string) (*template, error) {
	t := &template{jsonpath.New("path").AllowMissingKeys(true)}
	if err := t.Parse(text); err != nil {
		return nil, fmt.Errorf("%q is no JSONPath: %w", text, err)
	}
	return t, nil
}

// of returns the template's text for an item.
func (t *template) of(item any) (string, error) {
	text, err := json.Marshal(item)
	if err != nil {
		return "", err
	}
	var plain any
	if err := json.Unmarshal(text, &plain); err != nil {
		return "", err
	}
	var out bytes.Buffer
	if err := t.Execute(&out, plain); err != nil {
		return "", fmt.Errorf("fill in the JSONPath: %w", err)
	}
	return out.String(), nil
}

// sortItems sorts items by what is at a path, numbers as numbers; no path: not at all.
func sortItems(list []listItem, path string) error {
	if path == "" {
		return nil
	}
	p, err := pathOf(relaxed(path))
	if err != nil {
		return fmt.Errorf("--sort-by: %w", err)
	}
	keys := make(map[any]string, len(list))
	for i := range list {
		if keys[list[i].item], err = p.of(list[i].item); err != nil {
			return fmt.Errorf("--sort-by: %w", err)
		}
	}
	slices.SortStableFunc(list, func(a, b listItem) int { return compareTexts(keys[a.item], keys[b.item]) })
	return nil
}

// compareTexts compares numbers as numbers, and all else, which comes after them, as text.
func compareTexts(a, b string) int {
	x, xerr := strconv.ParseFloat(a, 64)
	y, yerr := strconv.ParseFloat(b, 64)
	switch {
	case xerr == nil && yerr == nil:
		return cmp.Compare(x, y)
	case xerr == nil:
		return -1
	case yerr == nil:
		return 1
	}
	return strings.Compare(a, b)
}
