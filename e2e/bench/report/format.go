// SPDX-License-Identifier: Apache-2.0

package report

import (
	"math"
	"strconv"
	"strings"
)

// number writes a figure with three digits that count, and commas between thousands.
func number(v float64) string {
	if v == 0 {
		return "0"
	}
	places := max(0, 2-int(math.Floor(math.Log10(math.Abs(v)))))
	if places == 0 {
		// Below 1,000 three digits are all there are; above, the rest is noise.
		scale := math.Pow(10, math.Floor(math.Log10(math.Abs(v)))-2)
		v = math.Round(v/scale) * scale
	}
	text := strconv.FormatFloat(v, 'f', min(places, 6), 64)
	if strings.Contains(text, ".") {
		text = strings.TrimRight(strings.TrimRight(text, "0"), ".")
	}
	return commas(text)
}

// commas puts them between the thousands of a whole number.
func commas(text string) string {
	whole, fraction, _ := strings.Cut(text, ".")
	for i := len(whole) - 3; i > 0 && whole[i-1] != '-'; i -= 3 {
		whole = whole[:i] + "," + whole[i:]
	}
	if fraction != "" {
		whole += "." + fraction
	}
	return whole
}

// count writes a whole number.
func count(n int) string { return commas(strconv.Itoa(n)) }

// scales are units that a figure passes on to when it is too large or too small for its own.
var scales = map[string]struct {
	large string // 1,000 of the unit
	small string // a thousandth
}{
	"s":  {small: "ms"},
	"ms": {large: "s", small: "us"},
	"us": {large: "ms"},
	"B":  {large: "kB"},
	"kB": {large: "MB"},
}

// value writes a figure with its unit.
func value(v float64, unit string) string {
	scale := scales[unit]
	switch {
	case v == 0:
	case math.Abs(v) >= 1000 && scale.large != "":
		return value(v/1000, scale.large)
	case math.Abs(v) < 0.9995 && scale.small != "":
		return value(v*1000, scale.small)
	}
	switch unit {
	case "connections", "Services":
		return number(v)
	case "%":
		return number(v) + " %"
	case "1/s":
		return number(v) + "/s"
	case "us":
		return number(v) + " µs"
	}
	return number(v) + " " + unit
}

const noBreak = "\u00a0" // a space at which no line ends

// times writes how often one figure is another.
func times(v, of float64) string {
	ratio := v / of
	switch {
	case ratio >= 9.95:
		return number(math.Round(ratio)) + noBreak + "×"
	case ratio >= 0.0095:
		return strconv.FormatFloat(ratio, 'f', 2-boolInt(ratio >= 1.995), 64) + noBreak + "×"
	}
	return number(ratio) + noBreak + "×"
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// plural is the noun with its number.
func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return count(n) + " " + noun + "s"
}
