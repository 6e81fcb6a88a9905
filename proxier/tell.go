// SPDX-License-Identifier: Apache-2.0

package proxier

import (
	"errors"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"

	"github.com/nftproxy/nftproxy/printable"
	"github.com/nftproxy/nftproxy/proxier/cluster"
	"github.com/nftproxy/nftproxy/reason"
	"github.com/nftproxy/nftproxy/rules"
)

// Events takes warnings about objects, for those who look at them with kubectl. It
// must not block.
type Events interface {
	Warning(about corev1.ObjectReference, reason, message string)
}

// teller tells of things in the log and in events.
type teller struct {
	log     logr.Logger
	events  Events // nil: nobody takes any
	cluster *cluster.Cluster
	metrics *Metrics
}

// service sends an event about a Service.
func (t *teller) service(n cluster.ObjectName, event, message string) {
	t.warn(cluster.Object{APIVersion: "v1", Kind: "Service", ObjectName: n, UID: t.cluster.ServiceUID(n)}, event, message)
}

func (t *teller) warn(about cluster.Object, event, message string) {
	if t.events != nil {
		t.events.Warning(corev1.ObjectReference{APIVersion: about.APIVersion, Kind: about.Kind, Namespace: about.Namespace, Name: about.Name,
			UID: about.UID}, event, printable.Line(message))
	}
}

// faults tells what was found at objects.
func (t *teller) faults(list []cluster.Fault) {
	for i := range list {
		switch f := &list[i]; f.Kind {
		case cluster.Unusable:
			t.unusable(f)
		case cluster.NotForProxies:
			t.log.V(2).Info("Not for a service proxy", "endpointSlice", f.About.String(), "addressType", printable.Word(f.Text))
		case cluster.NodeMissing:
			t.log.Info("There is no Node object of this node's name: its zone and addresses are not known", "node", f.About.Name)
		case cluster.Untold:
			t.log.Info("Skipped", "reason", "parts of more objects than are told of", "objects", f.More)
			t.metrics.skipped.Add(float64(f.More))
		case cluster.NodeGone:
			t.log.Info("The Node object of this node is gone", "node", f.About.Name)
		}
	}
}

// unusable tells what of an object cannot be used. It is one event: those about one object with
// one reason are counted together, and only the first one's text is kept.
func (t *teller) unusable(f *cluster.Fault) {
	for _, err := range f.Errs {
		t.log.Info("Skipped", "reason", printable.Error(err))
		t.metrics.skipped.Inc()
	}
	message := printable.Error(errors.Join(f.Errs...))
	switch f.About.Kind {
	case "Service":
		t.warn(f.About, reason.EventInvalidService, message)
	case "EndpointSlice":
		t.warn(f.About, reason.EventInvalidSlice, message)
	}
}

// servicesOf calls f once for each Service of owners that are sorted.
func servicesOf(owners []rules.Owner, f func(cluster.ObjectName)) {
	var told cluster.ObjectName
	for _, o := range owners {
		if n := cluster.ServiceOf(o); n != told {
			told = n
			f(n)
		}
	}
}
