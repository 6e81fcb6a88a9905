// SPDX-License-Identifier: Apache-2.0

package ask

import (
	"github.com/nftproxy/nftproxy/cmd/nftproxy/explain"
	"github.com/nftproxy/nftproxy/printable"
	"github.com/nftproxy/nftproxy/proxier"
	"github.com/nftproxy/nftproxy/proxier/cluster"
	"github.com/nftproxy/nftproxy/rules"
)

// Version is the answer to /v1/version.
type Version struct {
	Version string `json:"version"`
	Table   string `json:"table"`
	Node    string `json:"node"`
	// Namespace is the network namespace whose kernel is programmed, as /proc/self/ns/net names it.
	Namespace string `json:"networkNamespace"`
}

// Services is the answer to /v1/services.
type Services struct {
	Services []Service `json:"services"`
	// Continue is what to ask for next; empty: these are the last.
	Continue string `json:"continue,omitempty"`
}

// Service is one Service. Its texts are printable.
type Service struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Type      string `json:"type"`
	Ports     []Port `json:"ports"`
	// Notes say what of it is not served, and why.
	Notes []string `json:"notes,omitempty"`
}

// Port is a service port in one family.
type Port struct {
	explain.Identity
	// Frontends are addresses and ports, and NODEPORT for a NodePort.
	Frontends []string `json:"frontends"`
	Scheduler string   `json:"scheduler"`
	Internal  string   `json:"internalTrafficPolicy"`
	External  string   `json:"externalTrafficPolicy,omitempty"`
	Affinity  uint32   `json:"affinitySeconds,omitempty"`
	// Used get new connections from this node, Ready are those that are ready, and All are in EndpointSlices.
	Used  int `json:"endpointsUsed"`
	Ready int `json:"endpointsReady"`
	All   int `json:"endpoints"`
	// Lost is how many frontends others have.
	Lost int `json:"lost,omitempty"`
	// State is ok, no endpoints, or conflict.
	State State `json:"state"`
}

// State says how a service port is served.
type State string

// The states.
const (
	OK          State = "ok"
	NoEndpoints State = "no endpoints"
	Conflict    State = "conflict" // another Service has one of its frontends
)

// serviceOf makes the answer from what is known of a Service.
func serviceOf(n cluster.ObjectName, look *cluster.Look, node *rules.Node) Service {
	out := Service{Namespace: printable.Word(n.Namespace), Name: printable.Word(n.Name), Type: look.Type, Notes: look.Notes, Ports: []Port{}}
	for i := range look.Inputs {
		out.Ports = append(out.Ports, portOf(&look.Inputs[i], node))
	}
	return out
}

func portOf(in *cluster.Input, node *rules.Node) Port {
	view := proxier.Port{ServicePort: in.Port}
	p := Port{Identity: explain.IdentityOf(&view), Frontends: explain.FrontendsOf(&view), Scheduler: in.Port.Scheduler.String(),
		Internal: policy(in.Port.InternalLocal), Affinity: in.Port.Affinity, All: len(in.Endpoints), Lost: len(in.Lost), State: OK}
	if in.Port.External() {
		p.External = policy(in.Port.ExternalLocal)
	}
	for _, e := range in.Endpoints {
		if e.Ready {
			p.Ready++
		}
	}
	for _, j := range rules.ExplainEndpoints(&in.Port, in.Endpoints, node) {
		if j.Cluster || j.Local {
			p.Used++
		}
	}
	switch {
	case len(in.Lost) > 0:
		p.State = Conflict
	case p.Used == 0:
		p.State = NoEndpoints
	}
	return p
}

func policy(local bool) string {
	if local {
		return "Local"
	}
	return "Cluster"
}
