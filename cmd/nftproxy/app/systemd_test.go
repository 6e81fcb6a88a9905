// SPDX-License-Identifier: Apache-2.0

package app

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/nftproxy/nftproxy/e2e/netns/netnstest"
)

const unit = "../../../deploy/systemd/nftproxy.service"

// TestUnit: systemd understands the unit, and leaves the service what it needs and little more.
func TestUnit(t *testing.T) {
	text, err := os.ReadFile(unit)
	must(t, err)
	const want = "\nCapabilityBoundingSet=CAP_NET_BIND_SERVICE CAP_NET_ADMIN\n" // which sandbox.Enter keeps
	if !strings.Contains(string(text), want) {
		t.Errorf("the unit does not say %q", strings.TrimSpace(want))
	}
	analyze := netnstest.Tool(t, "systemd-analyze")
	// 2.0 with systemd 252; of 10, and below 2.5 whatever later versions weigh.
	out, err := exec.Command(analyze, "security", "--offline=true", "--no-pager", "--threshold=25", unit).CombinedOutput()
	if err != nil || strings.Contains(string(out), "ignoring") {
		t.Errorf("%v: %s", err, out)
	}
}
