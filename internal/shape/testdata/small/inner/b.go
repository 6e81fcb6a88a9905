// SPDX-License-Identifier: Apache-2.0

package inner

const limit = 3

// Each is used by no other file.
type Each interface {
	One()
	Two()
	Three()
}

var _ = struct{ a int }{}

func size(any) int { return base }

// Len is declared apart from its type.
func (b *Box[T]) Len() int { _ = b.second; return 0 }
