// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package wire

// Batch exists so that programs compile on systems other than Linux.
type Batch struct{}
