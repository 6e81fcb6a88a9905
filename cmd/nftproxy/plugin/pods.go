// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/nftproxy/nftproxy/printable"
	"github.com/nftproxy/nftproxy/proxier/apiclient"
)

// Label chooses the pods of nftproxy's DaemonSet.
const Label = "app.kubernetes.io/name=nftproxy"

// container is the name of theirs.
const container = "nftproxy"

// ErrNoPod says that no pod of nftproxy runs on a node.
var ErrNoPod = errors.New("no pod of nftproxy's DaemonSet runs there")

// Pod is where nftproxy runs on a node.
type Pod struct {
	Node, Namespace, Name string
}

// PodOn returns the pod of a node; ErrNoPod if there is none.
func PodOn(ctx context.Context, client *apiclient.Client, node string) (Pod, error) {
	list, err := pods(ctx, client, "spec.nodeName="+node)
	if err != nil {
		return Pod{}, err
	}
	if len(list) == 0 {
		return Pod{Node: node}, fmt.Errorf("node %s: %w (%s)", printable.Word(node), ErrNoPod, Label)
	}
	return list[0], nil
}

// Pods returns the pods of all nodes, by the nodes' names, and the nodes that have none, as far as one may know.
func Pods(ctx context.Context, client *apiclient.Client) (list []Pod, without []string, err error) {
	if list, err = pods(ctx, client, ""); err != nil {
		return nil, nil, err
	}
	nodes, err := client.Nodes().List(ctx, metav1.ListOptions{})
	if err != nil { // the right to list pods is enough
		return list, nil, nil //nolint:nilerr // see above
	}
	for i := range nodes.Items {
		name := nodes.Items[i].Name
		if !slices.ContainsFunc(list, func(p Pod) bool { return p.Node == name }) {
			without = append(without, name)
		}
	}
	slices.Sort(without)
	return list, without, nil
}

// pods returns a running pod for each node: one that is ready rather than another, and the newest of those.
func pods(ctx context.Context, client *apiclient.Client, fields string) ([]Pod, error) {
	found, err := client.Pods(metav1.NamespaceAll).List(ctx, metav1.ListOptions{LabelSelector: Label, FieldSelector: fields})
	if err != nil {
		return nil, fmt.Errorf("list the pods of nftproxy: %w", err)
	}
	best := map[string]*corev1.Pod{}
	for i := range found.Items {
		p := &found.Items[i]
		if p.Status.Phase != corev1.PodRunning || p.Spec.NodeName == "" || !hasContainer(p) {
			continue
		}
		if b := best[p.Spec.NodeName]; b == nil || better(p, b) {
			best[p.Spec.NodeName] = p
		}
	}
	var out []Pod
	for node, p := range best {
		out = append(out, Pod{node, p.Namespace, p.Name})
	}
	slices.SortFunc(out, func(a, b Pod) int { return strings.Compare(a.Node, b.Node) })
	return out, nil
}

func hasContainer(p *corev1.Pod) bool {
	return slices.ContainsFunc(p.Spec.Containers, func(c corev1.Container) bool { return c.Name == container })
}

func better(a, b *corev1.Pod) bool {
	if x, y := ready(a), ready(b); x != y {
		return x
	}
	return b.CreationTimestamp.Before(&a.CreationTimestamp)
}

func ready(p *corev1.Pod) bool {
	return p.DeletionTimestamp == nil && slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}
