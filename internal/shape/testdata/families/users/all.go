// SPDX-License-Identifier: Apache-2.0

// Package users uses families.
package users

import "example.org/families/rules"

var All = []rules.Colour{rules.Red, rules.Green, rules.Blue}

func Known(s rules.Shape, o rules.Options) bool {
	switch s.(type) {
	case rules.Square, rules.Line, rules.Point:
		return o.Wide && o.High && o.Deep
	}
	return false
}
