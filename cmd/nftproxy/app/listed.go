// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/ask"
)

// listing is something that can be listed.
type listing struct {
	names  []string // by which it is asked for; the first is in messages
	named  bool     // one can be asked for by its Service's name
	spaced bool     // its items are in namespaces
	header []string // of the columns, without the namespace
	wide   []string // of those that -o wide adds
	fetch  func(ctx context.Context, c *ask.Client, of ask.Choice) ([]listItem, error)
}

// listItem is an item of a listing.
type listItem struct {
	item      any // as the API has it
	name      string
	namespace string
	rows      [][]string // with the columns of -o wide
}
