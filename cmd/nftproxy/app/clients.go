// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/explain"
	"github.com/nftproxy/nftproxy/printable"
)

// client returns the client that --from means.
func (o *worldOptions) client(ctx context.Context, w *explain.World, seen *explain.Observer, from string) (explain.Client, error) {
	switch from {
	case "node", w.Node.Name:
		return w.NodeClient(), nil
	case "outside":
		return w.OutsideClient(), nil
	case "pod":
		c, ok := w.PodClient()
		if !ok {
			return c, fmt.Errorf("nothing tells where pods are: give --cluster-cidr or another --detect-local-mode")
		}
		return c, nil
	}
	if a, err := netip.ParseAddr(from); err == nil {
		return w.ClientAt(a.Unmap()), nil
	}
	addrs := seen.Pod(from)
	if len(addrs) == 0 {
		var err error
		if addrs, err = o.lookUp(ctx, from); err != nil {
			return explain.Client{}, err
		}
	}
	c := explain.Client{}
	for _, a := range addrs {
		one := w.ClientAt(a)
		for f, addr := range one.Addrs {
			if addr.IsValid() {
				c.Addrs[f], c.IsNode, c.Interface = addr, one.IsNode, one.Interface
			}
		}
	}
	c.Name = from
	return c, nil
}

// lookUp asks the API server for the addresses of a pod or a Node.
func (o *worldOptions) lookUp(ctx context.Context, from string) ([]netip.Addr, error) {
	if namespace, name, isPod := strings.Cut(from, "/"); isPod {
		pod, err := o.podOfCluster(ctx, namespace, name)
		if err != nil {
			return nil, err
		}
		return pod.addrs, nil
	}
	const kind = "Node"
	if o.source.manifests != "" || o.kernel {
		return nil, fmt.Errorf("%s %s is not known here: give its address", kind, printable.Word(from))
	}
	client, err := o.wantOptions.client()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	node, err := client.Nodes().Get(ctx, from, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("get %s %s: %w: give its address", kind, printable.Word(from), err)
	}
	var out []netip.Addr
	for _, address := range node.Status.Addresses {
		if a, err := netip.ParseAddr(address.Address); err == nil {
			out = append(out, a.Unmap())
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%s %s has no address yet", kind, printable.Word(from))
	}
	return out, nil
}
