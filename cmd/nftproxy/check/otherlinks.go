// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package check

import "errors"

// look fails.
func look() (links, error) { return links{}, errors.New("nodes run Linux") }
