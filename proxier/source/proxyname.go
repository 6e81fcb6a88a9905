// SPDX-License-Identifier: Apache-2.0

package source

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
)

// LabelServiceProxyName is the label by which a Service is left to another proxy.
const LabelServiceProxyName = "service.kubernetes.io/service-proxy-name"

// ProxyName is the value of the label service-proxy-name of the Services that are ours. If it is empty,
// those without the label are: an empty label is somebody else's, too.
type ProxyName string

// Validate fails if no object can have the name in its label.
func (n ProxyName) Validate() error {
	if faults := validation.IsValidLabelValue(string(n)); len(faults) > 0 {
		return fmt.Errorf("serve the service proxy name %q: no object can have it in its label %s: %s",
			string(n), LabelServiceProxyName, strings.Join(faults, "; "))
	}
	return nil
}

// selector selects what is ours, for an API server.
func (n ProxyName) selector() string {
	if n == "" {
		return "!" + LabelServiceProxyName
	}
	return LabelServiceProxyName + "=" + string(n)
}

// Selects says whether a Service with these labels is ours.
func (n ProxyName) Selects(labels map[string]string) bool {
	value, labelled := labels[LabelServiceProxyName]
	if n == "" {
		return !labelled
	}
	return value == string(n)
}
