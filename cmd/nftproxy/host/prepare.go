// SPDX-License-Identifier: Apache-2.0

package host

import (
	"os"
	"path/filepath"
	"strconv"

	"k8s.io/klog/v2"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/config"
	"github.com/nftproxy/nftproxy/proxier/nodeaddr"
	"github.com/nftproxy/nftproxy/rules"
)

// Prepare sets what kube-proxy sets on a node, whose /proc is below root. What cannot
// be set is told of and costs nothing else: a container may write little below /proc
// and /sys. kube-proxy ends then, and so has to be privileged. proc/sys is below sysctlRoot, itself below
// root; warn gets an Event's reason and message.
func Prepare(log klog.Logger, c *config.Config, root, sysctlRoot string, warn func(reason, message string)) {
	tellTracking(log, Tracking(&c.Conntrack).Apply(filepath.Join(root, sysctlRoot), CPUs()), warn)
	if err := os.WriteFile(filepath.Join(root, "proc/self/oom_score_adj"), []byte(strconv.Itoa(int(*c.OOMScoreAdj))), 0); err != nil {
		log.V(2).Info("The OOM killer does not know that this process matters", "reason", err.Error())
	}
}

// MissingFamilies says which families of addresses the node does not have, and tells of it once.
func MissingFamilies(log klog.Logger) (missing [2]bool) {
	v4, v6 := nodeaddr.Families("/")
	missing = [2]bool{rules.IPv4: !v4, rules.IPv6: !v6}
	for _, f := range rules.Families {
		if missing[f] {
			log.Info("The node does not have this family of addresses, or it is switched off: nothing listens there; start nftproxy again when that changes", "family", [...]string{rules.IPv4: "IPv4", rules.IPv6: "IPv6"}[f])
		}
	}
	return missing
}
