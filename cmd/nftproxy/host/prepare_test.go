// SPDX-License-Identifier: Apache-2.0

package host

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/spf13/pflag"
	"k8s.io/klog/v2"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/config"
)

// TestPrepareHost sets the OOM score, and tells of what it cannot set.
func TestPrepareHost(t *testing.T) {
	root := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(root, "proc/self"), 0o755))
	var events []string
	var o config.Options
	fs := pflag.NewFlagSet("", pflag.ContinueOnError)
	o.AddFlags(fs)
	o.AddRunFlags(fs)
	must(t, fs.Parse([]string{"--oom-score-adj=-500"}))
	Prepare(klog.Background(), &o.Config, root, "/", func(reason, message string) { events = append(events, reason+" "+message) })
	got, err := os.ReadFile(filepath.Join(root, "proc/self/oom_score_adj"))
	if err != nil || string(got) != "-500" {
		t.Errorf("the OOM score is %s, %v", got, err)
	}
	if len(events) != 1 || !strings.HasPrefix(events[0], "FailedToSetUpConntrack") || !strings.Contains(events[0], "nf_conntrack_tcp_timeout_close_wait") {
		t.Errorf("events %q, want one that names the files", events)
	}
	events = nil
	tellTracking(klog.Background(), nil, func(reason, _ string) { events = append(events, reason) })
	tellTracking(klog.Background(), fmt.Errorf("set to 1: %w", syscall.EROFS), func(reason, _ string) { events = append(events, reason) })
	if len(events) > 0 {
		t.Errorf("events %q about nothing, and a container without privileges, want none", events)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
