// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package app

import "errors"

// inNetns fails where a namespace is asked for.
func inNetns(path string, fn func() error) error {
	if path != "" {
		return errors.New("enter network namespace: only Linux has them")
	}
	return fn()
}
