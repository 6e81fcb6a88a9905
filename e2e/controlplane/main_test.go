// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"os"
	"testing"
)

func TestMain(m *testing.M) {
	RunChild()
	os.Exit(m.Run())
}
