// SPDX-License-Identifier: Apache-2.0

package proxier

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/nftproxy/nftproxy/rules"
)

// Events takes warnings about objects, for those who look at them with kubectl. It
// must not block.
type Events interface {
	Warning(about corev1.ObjectReference, reason, message string)
}

// Reasons of events.
const (
	reasonConflict = "FrontendConflict" // another Service has the address, protocol and port
	reasonInvalid  = "InvalidService"   // a part of the Service cannot be used
	reasonRefused  = "KernelRefused"    // the kernel does not take the rules
	reasonPort     = "PortInUse"        // something else listens on the port
)

// warnService sends an event about the Service of an owner. p.mu is held.
func (p *Proxier) warnService(n objectName, reason, message string) {
	if p.config.Events == nil {
		return
	}
	about := corev1.ObjectReference{APIVersion: "v1", Kind: "Service", Namespace: n.namespace, Name: n.name}
	if s := p.store.services[n]; s != nil {
		about.UID = s.uid
	}
	p.config.Events.Warning(about, reason, message)
}

func serviceOf(o rules.Owner) objectName { return objectName{o.Namespace, o.Name} }
