// SPDX-License-Identifier: Apache-2.0

// Server answers in a pod: on each protocol at port 8080 of the addresses in
// $POD_IPS, as package traffic does. With the argument pause it only waits: so its
// image is the sandbox image, too. With $LISTEN_AFTER, such as 500ms, it begins to
// listen so much later.
package main

import (
	"fmt"
	"net/netip"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

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
		if err := delay(os.Getenv("LISTEN_AFTER"), stop); err != nil {
			return err
		}
		server, err := serve(os.Getenv("POD_IPS"))
		if err != nil {
			return err
		}
		defer server.Close()
	}
	<-stop
	return nil
}

// delay waits for a time, or until the process shall stop. Nothing is no time.
func delay(text string, stop <-chan os.Signal) error {
	if text == "" {
		return nil
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		return fmt.Errorf("read $LISTEN_AFTER: %w", err)
	}
	select {
	case <-time.After(d):
		return nil
	case s := <-stop:
		return fmt.Errorf("%v came before it listened", s)
	}
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
