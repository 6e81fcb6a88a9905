// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package sandbox

import "errors"

// Enter does nothing.
func Enter(Config) (notes []string) { return []string{"all: only Linux has it"} }

// ABI fails.
func ABI() (int, error) { return 0, errors.New("only Linux has it") }
