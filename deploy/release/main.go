// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"time"
)

const usage = "usage: release pack|push [flags]; see `go doc`"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("no command; %s", usage)
	}
	switch args[0] {
	case "pack":
		r, err := parse(args[1:])
		if err != nil {
			return err
		}
		return r.pack(ctx)
	case "push":
		flags := flag.NewFlagSet("push", flag.ContinueOnError)
		from := flags.String("from", "dist/release", "the `folder` that pack wrote")
		if err := flags.Parse(args[1:]); err != nil {
			return err
		}
		return push(ctx, *from, os.Stdout)
	default:
		return fmt.Errorf("unknown command %q; %s", args[0], usage)
	}
}

// parse reads the flags of pack.
func parse(args []string) (release, error) {
	var r release
	flags := flag.NewFlagSet("pack", flag.ContinueOnError)
	flags.StringVar(&r.version, "version", "", "the release's `version`, such as v0.1.0 or v0.1.0-rc.1")
	flags.StringVar(&r.commit, "commit", "", "the commit's `hash`")
	seconds := flags.Int64("time", 0, "the commit's time, in `seconds` since 1970: SOURCE_DATE_EPOCH")
	flags.StringVar(&r.root, "root", ".", "the checkout's `folder`")
	flags.StringVar(&r.binaries, "binaries", "dist/build", "the `folder` with OS_ARCH/nftproxy")
	flags.StringVar(&r.out, "out", "dist/release", "the `folder` to write; what is in it is deleted")
	flags.StringVar(&r.registry, "registry", "ghcr.io/nftproxy", "the image's `registry` and path, without the image's own name")
	if err := flags.Parse(args); err != nil {
		return r, err
	}
	if *seconds <= 0 || r.commit == "" {
		return r, fmt.Errorf("give the commit with -commit and its time with -time: `git log -1 --format='%%H %%ct'`")
	}
	r.time = time.Unix(*seconds, 0).UTC()
	return r, r.check()
}
