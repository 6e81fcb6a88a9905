// SPDX-License-Identifier: Apache-2.0

//go:build linux

package netns

import (
	"os"
	"strconv"
	"time"
)

// SlownessEnv says how many times slower than usual a machine is, for instance one that is emulated: 20. It
// makes tests wait longer, and nothing else.
const SlownessEnv = "NFTPROXY_TEST_SLOWNESS"

// Patience returns how long tests wait for what must happen. It is far more than that takes on a busy
// machine, so that its end is never the machine's fault. How long a thing took is no way to tell whether
// it was right.
func Patience() time.Duration {
	const usual = 20 * time.Second
	factor, err := strconv.ParseFloat(os.Getenv(SlownessEnv), 64)
	if err != nil || factor < 1 || factor > 100 {
		return usual
	}
	return time.Duration(factor * float64(usual))
}
