// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/nftproxy/nftproxy/e2e/netns"
	"github.com/nftproxy/nftproxy/e2e/traffic"
)

// stay keeps everything up until ctx ends, with --keep, and says what can be done
// meanwhile.
func (d *demo) stay(ctx context.Context, targets []target) {
	if !d.keep || ctx.Err() != nil {
		return
	}
	d.heading("The cluster stays up until you press Ctrl-C, which removes all of it. In another terminal:")
	node, client := d.cluster.Node.EnterCommand(), d.cluster.Client.EnterCommand()
	d.example("edit the services and see what nftproxy says here", filepath.Join(d.manifests.Dir, "*.yaml"))
	nftproxy := node + " " + d.bin + " "
	d.example("list what the node serves, and what nftproxy has done", nftproxy+"get services -A", nftproxy+"get endpoints -A", nftproxy+"history")
	if t := firstTCP(targets); t != nil {
		d.example("ask a service from the client pod: the answer says which backend it is, and whom it sees",
			fmt.Sprintf("%s bash -c 'exec 3<>/dev/tcp/%s/%d; echo hello >&3; head -n 1 <&3'", client, t.address.Addr(), t.address.Port()))
		name := t.namespace + "/" + t.service
		d.example("all about it, what becomes of connections to it, and one that is sent from here, and from the client pod",
			nftproxy+"describe service "+name, nftproxy+"explain "+name, nftproxy+"explain "+name+" --probe",
			nftproxy+"explain "+name+" --probe --netns "+d.cluster.Client.Path())
		d.example("trace connections to it: ask it meanwhile", nftproxy+"trace --to "+name)
	}
	d.example("look at who is connected to (q ends it), and whether all is well", nftproxy+"top", nftproxy+"check", nftproxy+"diff")
	d.example("look at all of it in a browser here", uiCommand(d, nftproxy))
	d.example("see the node's rules", nftproxy+"dump --kernel", node+" nft list ruleset")
	d.example("enter the node, or the client pod", node+" bash", client+" bash")
	d.say("\nEvery pod answers at the ports that the manifests named at the start. The log of nftproxy from here on:")
	d.log.turn(true)
	<-ctx.Done()
	d.log.turn(false)
	d.say("\nRemoving everything.")
}

// uiCommand serves the page where a browser of this machine reaches it: the node has a loopback address of its own.
func uiCommand(d *demo, nftproxy string) string {
	if netns.InUserNamespace() { // whose namespace cannot be entered: from outside connections are not followed
		return d.bin + " ui --socket " + socketIn(d.dir, d.keep)
	}
	return fmt.Sprintf("%sui --page-netns /proc/%d/ns/net", nftproxy, os.Getpid())
}

func (d *demo) example(what string, commands ...string) {
	d.say("\n  %s:", what)
	for _, c := range commands {
		d.say("    %s", c)
	}
}

// firstTCP returns a TCP target that has backends; nil: there is none.
func firstTCP(targets []target) *target {
	for i, t := range targets {
		if t.protocol == traffic.TCP && len(t.backends) > 0 {
			return &targets[i]
		}
	}
	return nil
}
