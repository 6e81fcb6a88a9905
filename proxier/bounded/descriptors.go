// SPDX-License-Identifier: Apache-2.0

package bounded

import (
	"math"

	"golang.org/x/sys/unix"
)

// plenty is the limit of descriptors from which on all that is asked for is had: four times what
// the pools of a run hold together.
const plenty = 10240

// Descriptors returns how many descriptors this process may have.
func Descriptors() int {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil || limit.Cur > math.MaxInt32 {
		return math.MaxInt32
	}
	return int(limit.Cur)
}

// Share returns how many of the descriptors that somebody would like he may have: fewer where the process may have
// few, so that enough are left for the kernel's sockets, the API server's and files.
func Share(like int) int { return share(like, Descriptors()) }

func share(like, limit int) int {
	const least = 4
	return max(least, like*min(limit, plenty)/plenty)
}
