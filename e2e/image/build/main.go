// SPDX-License-Identifier: Apache-2.0

// Build writes nftproxy's image, for several architectures, into an OCI archive:
//
//	build -name docker.io/library/nftproxy:TAG -o nftproxy-image.tar amd64=FILE arm64=FILE
package main

import (
	"flag"
	"fmt"
	"os"
	"strings"

	"github.com/nftproxy/nftproxy/e2e/image"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

func run() error {
	name := flag.String("name", "docker.io/library/nftproxy:latest", "the image's full `name`")
	version := flag.String("version", "unknown", "the image's label org.opencontainers.image.version")
	out := flag.String("o", "nftproxy-image.tar", "the `file` to write")
	flag.Parse()
	img := image.Nftproxy(*name, *version)
	for _, arg := range flag.Args() {
		arch, file, ok := strings.Cut(arg, "=")
		if !ok {
			return fmt.Errorf("%q is not ARCH=FILE", arg)
		}
		img.Binaries = append(img.Binaries, image.Binary{Arch: arch, File: file})
	}
	if len(img.Binaries) == 0 {
		return fmt.Errorf("no binaries: give one or more ARCH=FILE")
	}
	return image.Write(*out, img)
}
