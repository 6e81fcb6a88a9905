// SPDX-License-Identifier: Apache-2.0

// Package inner has three files; c.go alone is not in a circle.
package inner

import "strings"

// Box has three fields and two methods, in two files.
type Box[T any] struct {
	strings.Builder
	first, second T
}

// Get uses b.go, which uses Box.
func (b *Box[T]) Get() int {
	return limit + size(b.first)
}
