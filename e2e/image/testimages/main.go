// SPDX-License-Identifier: Apache-2.0

// Testimages writes the images of e2e/cluster's test server, one of which is the
// sandbox image of the nodes, into an OCI archive:
//
//	testimages -o images.tar SERVER
package main

import (
	"flag"
	"fmt"
	"os"
	"runtime"

	"github.com/nftproxy/nftproxy/e2e/image"
)

func main() {
	out := flag.String("o", "images.tar", "the `file` to write")
	flag.Parse()
	if err := write(*out, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "testimages:", err)
		os.Exit(1)
	}
}

func write(out string, args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("want the server's file, got %q", args)
	}
	server := image.Image{Name: "docker.io/library/e2e-server:latest", Entrypoint: "/server",
		Binaries: []image.Binary{{Arch: runtime.GOARCH, File: args[0]}}}
	pause := server
	pause.Name, pause.Cmd = "docker.io/library/e2e-pause:latest", []string{"pause"}
	return image.Write(out, server, pause)
}
