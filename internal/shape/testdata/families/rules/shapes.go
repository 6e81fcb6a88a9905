// SPDX-License-Identifier: Apache-2.0

package rules

type Shape interface{ Area() int }

type Square struct{ Side int }

func (s Square) Area() int { return s.Side * s.Side }

type Line struct{}

func (Line) Area() int { return 0 }
