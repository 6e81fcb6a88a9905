// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"os"
	"testing"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/app"
)

func TestMain(m *testing.M) {
	if os.Getenv(runEnv) != "" {
		os.Exit(app.Main("test"))
	}
	RunChild()
	os.Exit(m.Run())
}
