// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
)

// AppLabel is the label by which Services select the Pods of CreateBackends.
const AppLabel = "app"

// PodSpec describes a Pod as its kubelet would report it.
type PodSpec struct {
	Name string
	Node string // must exist, see CreateNode; the endpoint controller skips Pods of unknown nodes
	// IPs has one address, or one of each family.
	IPs      []netip.Addr
	NotReady bool
	Ports    []corev1.ContainerPort // needed for named target ports only
}

// CreateBackends creates Pods in the namespace with the label app=app, and gives
// them the status of running Pods: Services that select the label then get
// EndpointSlices with them. It makes the namespace if there is none.
func (cp *ControlPlane) CreateBackends(ctx context.Context, namespace, app string, pods []PodSpec) error {
	if err := cp.EnsureNamespace(ctx, namespace); err != nil {
		return err
	}
	client := cp.client.CoreV1().Pods(namespace)
	for _, spec := range pods {
		pod, err := client.Create(ctx, newPod(app, spec), metav1.CreateOptions{})
		if err != nil {
			return fmt.Errorf("create pod %s/%s: %w", namespace, spec.Name, err)
		}
		pod.Status = runningStatus(spec)
		if _, err := client.UpdateStatus(ctx, pod, metav1.UpdateOptions{}); err != nil {
			return fmt.Errorf("set status of pod %s/%s: %w", namespace, spec.Name, err)
		}
	}
	return nil
}

// SetReady reports a Pod as ready or not, as a kubelet does after a probe.
func (cp *ControlPlane) SetReady(ctx context.Context, namespace, name string, ready bool) error {
	client := cp.client.CoreV1().Pods(namespace)
	pod, err := client.Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("get pod %s/%s: %w", namespace, name, err)
	}
	pod.Status.Conditions = readyConditions(ready)
	if _, err := client.UpdateStatus(ctx, pod, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("set readiness of pod %s/%s: %w", namespace, name, err)
	}
	return nil
}

// TerminateBackend deletes a Pod as a user would. Without a kubelet it stays:
// as an endpoint that is terminating and, while the Pod is ready, serving.
func (cp *ControlPlane) TerminateBackend(ctx context.Context, namespace, name string) error {
	grace := int64(time.Hour / time.Second)
	err := cp.client.CoreV1().Pods(namespace).Delete(ctx, name, metav1.DeleteOptions{GracePeriodSeconds: &grace})
	if err != nil {
		return fmt.Errorf("terminate pod %s/%s: %w", namespace, name, err)
	}
	return nil
}

// DeleteBackends removes the Pods of the app from the API at once: the named
// ones, or all if no name is given. A named Pod that is not there is an error.
func (cp *ControlPlane) DeleteBackends(ctx context.Context, namespace, app string, names ...string) error {
	client := cp.client.CoreV1().Pods(namespace)
	atOnce := metav1.DeleteOptions{GracePeriodSeconds: new(int64)}
	if len(names) == 0 {
		selector := metav1.ListOptions{LabelSelector: AppLabel + "=" + app}
		if err := client.DeleteCollection(ctx, atOnce, selector); err != nil {
			return fmt.Errorf("delete pods of app %s in %s: %w", app, namespace, err)
		}
		return nil
	}
	for _, name := range names {
		if err := client.Delete(ctx, name, atOnce); err != nil {
			return fmt.Errorf("delete pod %s/%s: %w", namespace, name, err)
		}
	}
	return nil
}

// EnsureNamespace makes the namespace if there is none, and waits until Pods can
// be created in it: they need the service account that a controller makes in
// every new namespace.
func (cp *ControlPlane) EnsureNamespace(ctx context.Context, name string) error {
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
	_, err := cp.client.CoreV1().Namespaces().Create(ctx, namespace, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create namespace %s: %w", name, err)
	}
	accounts := cp.client.CoreV1().ServiceAccounts(name)
	err = wait.PollUntilContextTimeout(ctx, 20*time.Millisecond, 30*time.Second, true, func(ctx context.Context) (bool, error) {
		_, err := accounts.Get(ctx, "default", metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return false, nil
		}
		return err == nil, err
	})
	if err != nil {
		return fmt.Errorf("wait for service account default in %s: %w", name, err)
	}
	return nil
}

func newPod(app string, spec PodSpec) *corev1.Pod {
	container := corev1.Container{Name: "backend", Image: "none", Ports: spec.Ports}
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: spec.Name, Labels: map[string]string{AppLabel: app}},
		Spec:       corev1.PodSpec{NodeName: spec.Node, Containers: []corev1.Container{container}},
	}
}

func runningStatus(spec PodSpec) corev1.PodStatus {
	status := corev1.PodStatus{Phase: corev1.PodRunning, Conditions: readyConditions(!spec.NotReady)}
	for _, ip := range spec.IPs {
		status.PodIPs = append(status.PodIPs, corev1.PodIP{IP: ip.String()})
	}
	if len(status.PodIPs) > 0 {
		status.PodIP = status.PodIPs[0].IP
	}
	return status
}

func readyConditions(ready bool) []corev1.PodCondition {
	status := corev1.ConditionFalse
	if ready {
		status = corev1.ConditionTrue
	}
	return []corev1.PodCondition{
		{Type: corev1.ContainersReady, Status: status},
		{Type: corev1.PodReady, Status: status},
	}
}
