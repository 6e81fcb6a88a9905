// SPDX-License-Identifier: Apache-2.0

// Server answers in a pod: on each protocol at port 8080 of the addresses in
// $POD_IPS, as package traffic does. With the argument pause it only waits: so its
// image is the sandbox image, too.
package main

import (
	"fmt"
	"net/netip"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/traffic"
)

const port = 8080

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "server:", err)
		os.Exit(1)
	}
}

func run() error {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	if len(os.Args) < 2 || os.Args[1] != "pause" {
		server, err := serve(os.Getenv("POD_IPS"))
		if err != nil {
			return err
		}
		defer server.Close()
	}
	<-stop
	return nil
}

func serve(list string) (*traffic.Server, error) {
	var ips []netip.Addr
	for ip := range strings.SplitSeq(list, ",") {
		a, err := netip.ParseAddr(ip)
		if err != nil {
			return nil, fmt.Errorf("read $POD_IPS %q: %w", list, err)
		}
		ips = append(ips, a)
	}
	here, err := netns.Current()
	if err != nil {
		return nil, err
	}
	all := traffic.Protocols()
	return traffic.Serve(here, traffic.Endpoints(ips, []uint16{port}, all[:]...)...)
}
