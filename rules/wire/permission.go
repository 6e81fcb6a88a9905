// SPDX-License-Identifier: Apache-2.0

//go:build linux

package wire

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// NeedCapability is for requests that the kernel does not even look at.
const NeedCapability = "CAP_NET_ADMIN is needed in the user namespace that the network namespace belongs to"

// Permission says what is missing, where an error is about that.
func Permission(err error) error {
	if errors.Is(err, unix.EPERM) {
		return fmt.Errorf("%w: %s", err, NeedCapability)
	}
	return err
}
