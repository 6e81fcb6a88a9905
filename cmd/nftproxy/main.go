// SPDX-License-Identifier: Apache-2.0

// Command nftproxy forwards connections to Kubernetes Services to their
// endpoints with nftables, in place of kube-proxy.
package main

import (
	"os"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/app"
)

// version is set when the program is linked.
var version = "unknown"

func main() { os.Exit(app.Main(version)) }
