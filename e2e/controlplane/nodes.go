// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"context"
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// NodeSpec describes a node as its kubelet would register it.
type NodeSpec struct {
	Name     string
	Zone     string         // topology.kubernetes.io/zone; default: none
	IPs      []netip.Addr   // internal addresses, the primary one first
	PodCIDRs []netip.Prefix // at most one of each family; default: none
}

// CreateNode registers a node that is ready.
func (cp *ControlPlane) CreateNode(ctx context.Context, spec NodeSpec) error {
	client := cp.client.CoreV1().Nodes()
	node, err := client.Create(ctx, newNode(spec), metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("create node %s: %w", spec.Name, err)
	}
	node.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeHostName, Address: spec.Name}}
	for _, ip := range spec.IPs {
		node.Status.Addresses = append(node.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: ip.String()})
	}
	node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	if _, err := client.UpdateStatus(ctx, node, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("set status of node %s: %w", spec.Name, err)
	}
	return nil
}

// newNode has the labels that kubelets give their nodes.
func newNode(spec NodeSpec) *corev1.Node {
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{
		Name:   spec.Name,
		Labels: map[string]string{corev1.LabelHostname: spec.Name},
	}}
	if spec.Zone != "" {
		node.Labels[corev1.LabelTopologyZone] = spec.Zone
	}
	for _, cidr := range spec.PodCIDRs {
		node.Spec.PodCIDRs = append(node.Spec.PodCIDRs, cidr.String())
	}
	if len(spec.PodCIDRs) > 0 {
		node.Spec.PodCIDR = node.Spec.PodCIDRs[0]
	}
	return node
}
