// SPDX-License-Identifier: Apache-2.0

//go:build linux

package cluster

import (
	"os"
	"testing"
)

func TestMain(m *testing.M) {
	RunChild()
	os.Exit(m.Run())
}
