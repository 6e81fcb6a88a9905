// SPDX-License-Identifier: Apache-2.0

// Package rules declares families.
package rules

type Colour int

const (
	Red Colour = iota
	Green
	Blue
	Black
	numColours
)

var names = [numColours]string{Red: "red", Green: "green", Blue: "blue", Black: "black"}

type Options struct{ Wide, High, Deep bool }
