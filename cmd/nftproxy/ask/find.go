// SPDX-License-Identifier: Apache-2.0

package ask

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/nftproxy/nftproxy/printable"
)

// Search says which nftproxy of this network namespace is looked for.
type Search struct {
	// Socket is its path; TABLE stands for the tables' name.
	Socket string
	// Table is the tables' name. AnyTable says that nobody has named it: another one will do, if only one nftproxy answers.
	Table    string
	AnyTable bool
	// Holder returns the socket of who writes the tables of a name, as that says itself; empty: it is not known. It is asked where
	// nobody answers at Socket. Nil: nobody is asked.
	Holder func(table string) string
}

// Several says that it is not known which nftproxy is meant.
type Several struct{ List []Elsewhere }

// Error implements error.
func (e *Several) Error() string {
	var list []string
	for i := range e.List {
		list = append(list, fmt.Sprintf("that of table %s at %s", printable.Word(e.List[i].Table), printable.Line(e.List[i].Path)))
	}
	return "several nftproxies answer here: " + strings.Join(list, ", ") + ": choose with --service-proxy-name or --socket"
}

// Bounds of a search.
const (
	mostSockets = 32
	searchTime  = 2 * time.Second // that one socket is given
	tableWord   = "TABLE"
)

// Find returns a client of the nftproxy that is looked for, and the name of its tables: that which answers at the socket, else
// that which writes the tables, else the one that answers at a socket that another table's name would have. It fails with
// *Several if there is more than one of the latter.
func Find(ctx context.Context, s Search) (*Client, string, error) {
	path := Path(s.Socket, s.Table)
	c, err := Dial(ctx, path, s.Table)
	if err == nil {
		return c, s.Table, nil
	}
	if s.Holder != nil {
		if other := s.Holder(s.Table); other != "" && other != path {
			if c, herr := Dial(ctx, other, s.Table); herr == nil {
				return c, s.Table, nil
			}
		}
	}
	if !s.AnyTable || !strings.Contains(s.Socket, tableWord) {
		return nil, "", err
	}
	switch found := neighbours(ctx, s.Socket); len(found) {
	case 0:
		return nil, "", err
	case 1:
		return &Client{found[0].Path}, found[0].Table, nil
	default:
		return nil, "", &Several{found}
	}
}

// neighbours returns the nftproxies of this network namespace that answer where their tables' names put them.
func neighbours(ctx context.Context, socket string) (out []Elsewhere) {
	paths, err := filepath.Glob(strings.ReplaceAll(escaped(socket), tableWord, "*"))
	if err != nil {
		return nil
	}
	slices.Sort(paths)
	for _, path := range paths[:min(mostSockets, len(paths))] {
		one, cancel := context.WithTimeout(ctx, searchTime)
		v, err := (&Client{path}).Version(one)
		cancel()
		if err == nil && v.Namespace == networkNamespace() && Path(socket, v.Table) == path {
			out = append(out, Elsewhere{path, v})
		}
	}
	slices.SortFunc(out, func(a, b Elsewhere) int { return cmp.Compare(a.Table, b.Table) })
	return out
}

// escaped makes of a path a pattern that it alone matches.
func escaped(path string) string {
	return strings.NewReplacer("\\", "\\\\", "*", "\\*", "?", "\\?", "[", "\\[").Replace(path)
}
