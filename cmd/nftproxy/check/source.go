// SPDX-License-Identifier: Apache-2.0

package check

import (
	"context"
	"fmt"
	"strings"

	authorizationv1 "k8s.io/api/authorization/v1"

	"github.com/nftproxy/nftproxy/printable"
	"github.com/nftproxy/nftproxy/proxier/source/manifests"
)

// source looks whether Services can be read.
func (n *Node) source(ctx context.Context, r *Report) {
	if n.Manifests != "" {
		objects, errs := manifests.Source{Dir: n.Manifests, ServiceProxyName: n.ProxyName}.Read()
		for _, err := range errs {
			r.fail("manifests", printable.Error(err))
		}
		if len(errs) == 0 {
			r.ok("manifests", fmt.Sprintf("%d Services, %d EndpointSlices", len(objects.Services), len(objects.EndpointSlices)))
		}
		return
	}
	client, err := n.Client()
	if err != nil {
		r.fail("API server", printable.Error(err))
		return
	}
	version, err := client.Version(ctx)
	if err != nil {
		r.fail("API server", printable.Error(err)+": give the right --kubeconfig or --master")
		return
	}
	r.ok("API server", version.GitVersion)
	for _, right := range neededRights() {
		what := "right to " + right.Verb + " " + right.Resource
		allowed, err := client.MayI(ctx, right)
		switch {
		case err != nil:
			r.fail(what, printable.Error(err))
		case allowed:
			r.ok(what, "")
		default:
			r.fail(what, fmt.Sprintf("missing: allow it with a ClusterRole (apiGroups: [%q], resources: [%q], verbs: [%q])", right.Group, right.Resource, right.Verb))
		}
	}
}

func neededRights() []authorizationv1.ResourceAttributes {
	var out []authorizationv1.ResourceAttributes
	for _, of := range []struct{ group, resource, verbs string }{
		{"", "services", "list watch"}, {"discovery.k8s.io", "endpointslices", "list watch"}, {"", "nodes", "list watch"},
		{"networking.k8s.io", "servicecidrs", "list watch"}, {"events.k8s.io", "events", "create patch"},
	} {
		for verb := range strings.FieldsSeq(of.verbs) {
			out = append(out, authorizationv1.ResourceAttributes{Group: of.group, Resource: of.resource, Verb: verb})
		}
	}
	return out
}
