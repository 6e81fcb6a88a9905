// SPDX-License-Identifier: Apache-2.0

package source

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
)

// The labels by which a Service is left to somebody else, and an EndpointSlice to DNS.
const (
	labelServiceProxyName = "service.kubernetes.io/service-proxy-name"
	labelHeadless         = corev1.IsHeadlessService
)

// proxyName is the value of the label service-proxy-name of the Services that are ours. If it is empty,
// those without the label are: an empty label is somebody else's, too.
type proxyName string

// validate tells whether an object can have the name in its label.
func (n proxyName) validate() error {
	if faults := validation.IsValidLabelValue(string(n)); len(faults) > 0 {
		return fmt.Errorf("serve the service proxy name %q: no object can have it in its label %s: %s",
			string(n), labelServiceProxyName, strings.Join(faults, "; "))
	}
	return nil
}

// selector selects what is ours, for an API server.
func (n proxyName) selector() string {
	if n == "" {
		return "!" + labelServiceProxyName
	}
	return labelServiceProxyName + "=" + string(n)
}

// selects does what selector does, with an object's labels.
func (n proxyName) selects(labels map[string]string) bool {
	value, labelled := labels[labelServiceProxyName]
	if n == "" {
		return !labelled
	}
	return value == string(n)
}
