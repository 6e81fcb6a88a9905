// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package foreign

import "errors"

// Dump exists for the same reason as Ruleset.
type Dump struct{}

// New fails.
func New([]Dump) (*Ruleset, error) { return nil, errors.ErrUnsupported }

// Ruleset exists so that programs compile on systems other than Linux, where there is none.
type Ruleset struct{}

// Connect fails.
func (*Ruleset) Connect(Packet) ([]Way, error) { return nil, errors.ErrUnsupported }

// Frontends returns none.
func (*Ruleset) Frontends() []Frontend { return nil }

// Mode returns none.
func (*Ruleset) Mode() string { return "" }
