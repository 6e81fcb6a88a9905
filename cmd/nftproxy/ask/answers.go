// SPDX-License-Identifier: Apache-2.0

package ask

import (
	"fmt"
	"time"

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
	// Labels are the Service's, if they are not too long.
	Labels map[string]string `json:"labels,omitempty"`
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
	// State is ok, no endpoints, conflict, or refused.
	State State `json:"state"`
}

// State says how a service port is served.
type State string

// The states.
const (
	OK            State = "ok"
	NoEndpoints   State = "no endpoints"
	InConflict    State = "conflict" // another Service has one of its frontends
	KernelRefuses State = "refused"  // the kernel refuses what it should hold
)

// Endpoints is the answer to /v1/endpoints.
type Endpoints struct {
	Endpoints []Endpoint `json:"endpoints"`
	Continue  string     `json:"continue,omitempty"`
}

// Endpoint is an endpoint of a service port, and whether it gets new connections from this node.
type Endpoint struct {
	Namespace string           `json:"namespace"`
	Name      string           `json:"name"` // of the Service
	Of        explain.Identity `json:"of"`
	explain.Endpoint
}

// Owner names a service port in one family. Its texts are printable.
type Owner struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Port      string `json:"port,omitempty"`
	Family    string `json:"family"`
}

func ownerOf(o rules.Owner) Owner {
	return Owner{printable.Word(o.Namespace), printable.Word(o.Name), printable.Word(o.Port), o.Family.String()}
}

// Conflicts is the answer to /v1/conflicts.
type Conflicts struct {
	Conflicts []Conflict `json:"conflicts"`
	Continue  string     `json:"continue,omitempty"`
}

// Conflict is a frontend that a service port does without.
type Conflict struct {
	Owner
	Frontend string `json:"frontend"`
	// Holder is the service port that is served there instead; empty: none is.
	Holder string `json:"holder,omitempty"`
	// Why goes on after the frontend, and Code is the reason's.
	Why  string `json:"why"`
	Code string `json:"code"`
}

// RefusedPorts is the answer to /v1/refused.
type RefusedPorts struct {
	Refused []RefusedPort `json:"refused"`
	// More is how many there are besides.
	More int `json:"more,omitempty"`
}

// RefusedPort is a service port whose objects the kernel refuses.
type RefusedPort struct {
	Owner
	Why     string    `json:"why"`
	Since   time.Time `json:"since"`
	NextTry time.Time `json:"nextTry"`
}

// Transactions is the answer to /v1/transactions: the oldest come first.
type Transactions struct {
	Transactions []Transaction `json:"transactions"`
	Continue     string        `json:"continue,omitempty"`
}

// Transaction is one time that the tables were written, or that it was tried.
type Transaction struct {
	// Number counts from 1 since nftproxy's start.
	Number uint64 `json:"number"`
	Times
	Why string `json:"why"`
	// Causes are some of what changed somewhere, and CauseCount is how many there are.
	Causes     []Cause `json:"causes,omitempty"`
	CauseCount int     `json:"causeCount,omitempty"`
	// By are the programs that had changed the tables.
	By string `json:"by,omitempty"`
	// ServicePorts is how many were written, and Ports are some of them.
	ServicePorts int       `json:"servicePorts"`
	Ports        []Written `json:"ports,omitempty"`
	// Operations is how many it took where the tables were compared, or filled, and Repairs names some of them.
	Operations int    `json:"operations,omitempty"`
	Repairs    string `json:"repairs,omitempty"`
	// Refused says what the kernel did not take.
	Refused string `json:"refused,omitempty"`
}

// Times are those of a transaction.
type Times struct {
	// At is when it was over. Took is how long it took, and Delay is how long before At the oldest of the changes was made, as its
	// EndpointSlice says; 0: it says nothing. Waited is how long before At the first of the changes came in. They are in milliseconds.
	At     time.Time `json:"at"`
	Took   float64   `json:"tookMilliseconds"`
	Delay  float64   `json:"delayMilliseconds,omitempty"`
	Waited float64   `json:"waitedMilliseconds,omitempty"`
}

// Cause is what has changed somewhere.
type Cause struct {
	// Kind is an object's kind, or 'API server', 'failover', or 'shares': open connections or time have changed those of endpoints.
	Kind string `json:"kind"`
	Name string `json:"name,omitempty"` // with its namespace, if it has one
	// What became of it: came, changed or went.
	What string    `json:"what"`
	At   time.Time `json:"at"`
}

// Written is a service port whose objects were written.
type Written struct {
	Owner
	// Used is how many endpoints get connections now.
	Used int `json:"endpointsUsed"`
	// Came and Went are some of those that have come and gone, and the numbers are how many.
	Came      []string `json:"came,omitempty"`
	CameCount int      `json:"cameCount,omitempty"`
	Went      []string `json:"went,omitempty"`
	WentCount int      `json:"wentCount,omitempty"`
	// Begun and Ended are some of the frontends that are served since, or are no more, and the numbers are how many.
	Begun      []string `json:"begun,omitempty"`
	BegunCount int      `json:"begunCount,omitempty"`
	Ended      []string `json:"ended,omitempty"`
	EndedCount int      `json:"endedCount,omitempty"`
}

func printed[T fmt.Stringer](list []T) (out []string) {
	for _, a := range list {
		out = append(out, a.String())
	}
	return out
}

// view is what is known besides a Service.
type view struct {
	node    rules.Node
	refused map[rules.Owner]bool
}

func (d *Daemon) view() *view {
	v := &view{d.Proxier.Looker().Node(), map[rules.Owner]bool{}}
	for _, r := range d.Proxier.Refused() {
		v.refused[r.Owner] = true
	}
	return v
}

// service makes the answer from what is known of a Service.
func (v *view) service(n cluster.ObjectName, look *cluster.Look) Service {
	out := Service{Namespace: printable.Word(n.Namespace), Name: printable.Word(n.Name), Type: look.Type, Notes: look.Notes, Labels: printedLabels(look.Labels), Ports: []Port{}}
	for i := range look.Inputs {
		out.Ports = append(out.Ports, v.port(&look.Inputs[i]))
	}
	return out
}

func (v *view) port(in *cluster.Input) Port {
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
	for _, j := range rules.ExplainEndpoints(&in.Port, in.Endpoints, &v.node) {
		if j.Cluster || j.Local {
			p.Used++
		}
	}
	switch {
	case v.refused[in.Owner]:
		p.State = KernelRefuses
	case len(in.Lost) > 0:
		p.State = InConflict
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
