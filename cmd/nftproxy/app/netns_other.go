// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package app

import (
	"errors"
	"net/netip"
)

// inNetns fails where a namespace is asked for.
func inNetns(path string, fn func() error) error {
	if path != "" {
		return errors.New("enter network namespace: only Linux has them")
	}
	return fn()
}

// netnsWith fails.
func netnsWith(string, []netip.Addr) (string, error) {
	return "", errors.New("find a pod's network namespace: only Linux has them")
}
