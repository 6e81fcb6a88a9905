// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/ask"
	"github.com/nftproxy/nftproxy/cmd/nftproxy/explain"
	"github.com/nftproxy/nftproxy/printable"
	"github.com/nftproxy/nftproxy/proxier/apiclient"
)

// aPod is what is known of a pod.
type aPod struct {
	addrs []netip.Addr
	node  string // empty: not known
}

// clients returns its addresses as clients of an explanation.
func (p *aPod) clients() (from []string) {
	for _, a := range p.addrs {
		from = append(from, a.String())
	}
	return from
}

// podSearch looks for the pod of --from-pod.
type podSearch struct {
	*worldOptions
	text      string // what is given
	namespace string // of a name alone
}

// ask finds the pod among the endpoints that an nftproxy knows, else where that has them from.
func (s *podSearch) ask(cmd *cobra.Command, client *ask.Client) (*aPod, error) {
	ctx := cmd.Context()
	v, err := client.Version(ctx)
	if err != nil {
		return nil, err
	}
	return s.pod(v.Node, func() (*aPod, error) { return s.endpoint(ctx, client) }, func() (*aPod, error) {
		if err := s.resolve(cmd.Flags(), "/", func(string) {}); err != nil {
			return nil, err
		}
		return s.ofCluster(ctx)
	})
}

// look finds the pod in what a source has told, else asks the API server.
func (s *podSearch) look(ctx context.Context, here string, seen *explain.Observer) (*aPod, error) {
	return s.pod(here, func() (*aPod, error) {
		namespace, name := podName(s.text, s.namespace)
		if list := seen.Pod(namespace + "/" + name); len(list) > 0 {
			return &aPod{addrs: list}, nil
		}
		return nil, nil
	}, func() (*aPod, error) { return s.ofCluster(ctx) })
}

// podName splits the name of a pod.
func podName(text, namespace string) (string, string) {
	if ns, name, ok := strings.Cut(text, "/"); ok {
		return ns, name
	}
	return namespace, text
}

// pod finds the pod by its address, or by the first of some ways that knows it. It has to be of this node, here.
func (s *podSearch) pod(here string, ways ...func() (*aPod, error)) (*aPod, error) {
	p, err := podAt(s.text)
	for i := 0; p == nil && err == nil && i < len(ways); i++ {
		p, err = ways[i]()
	}
	if err != nil {
		return nil, err
	}
	if p.node != "" && here != "" && !strings.EqualFold(p.node, here) {
		return nil, fmt.Errorf("pod %s runs on node %s, not on this one, %s: run this command there", printable.Word(s.text), printable.Word(p.node), printable.Word(here))
	}
	return p, nil
}

// podAt reads addresses, with commas between them; nil: they are none.
func podAt(text string) (*aPod, error) {
	p := &aPod{}
	for part := range strings.SplitSeq(text, ",") {
		a, err := netip.ParseAddr(part)
		switch {
		case err == nil:
			p.addrs = append(p.addrs, a.Unmap())
		case len(p.addrs) > 0:
			return nil, fmt.Errorf("%q is no address", part)
		default:
			return nil, nil
		}
	}
	return p, nil
}

// endpoint finds the pod among the endpoints of the Services that an nftproxy serves; nil: it is none of them.
func (s *podSearch) endpoint(ctx context.Context, client *ask.Client) (*aPod, error) {
	namespace, name := podName(s.text, s.namespace)
	list, err := client.Endpoints(ctx, ask.Choice{Namespace: namespace})
	if err != nil {
		return nil, err
	}
	wanted := printable.Word(namespace) + "/" + printable.Word(name)
	var p *aPod
	for i := range list {
		at, aerr := netip.ParseAddrPort(list[i].Address)
		if list[i].Pod != wanted || aerr != nil {
			continue
		}
		if p == nil {
			p = &aPod{node: list[i].Node}
		}
		if !slices.Contains(p.addrs, at.Addr()) {
			p.addrs = append(p.addrs, at.Addr())
		}
	}
	return p, nil
}

// ofCluster asks the API server for the pod.
func (s *podSearch) ofCluster(ctx context.Context) (*aPod, error) {
	namespace, name := podName(s.text, s.namespace)
	return s.podOfCluster(ctx, namespace, name)
}

// podOfCluster asks the API server for a pod.
func (o *worldOptions) podOfCluster(ctx context.Context, namespace, name string) (*aPod, error) {
	unknown := fmt.Sprintf("pod %s/%s is no endpoint of a Service here", printable.Word(namespace), printable.Word(name))
	if o.source.manifests != "" || o.kernel {
		return nil, fmt.Errorf("%s: give its address", unknown)
	}
	client, err := o.wantOptions.client()
	if err != nil {
		return nil, fmt.Errorf("%s, and no API server can be asked: %w: give its address", unknown, err)
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	pod, err := client.Pods(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("%s, and the API server does not tell: %w: give its address", unknown, err)
	}
	p := &aPod{addrs: apiclient.PodAddrs(pod), node: pod.Spec.NodeName}
	if len(p.addrs) == 0 {
		return nil, fmt.Errorf("pod %s/%s has no address yet", printable.Word(namespace), printable.Word(name))
	}
	return p, nil
}
