// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"github.com/nftproxy/nftproxy/reason"
	"github.com/nftproxy/nftproxy/rules"
)

// Explanation is what can be said about a target. Its texts are printable, and bounded.
type Explanation struct {
	Target string `json:"target"`
	// Node is the node whose view this is.
	Node  NodeView `json:"node"`
	Ports []Port   `json:"ports"`
	// Notes say what of the Service is not served, and why.
	Notes []string `json:"notes,omitempty"`
	// Kernel says whether the kernel holds just that.
	Kernel Kernel `json:"kernel"`
	// History says since when things are so, where the nftproxy that runs explains; else it is nil.
	History *History `json:"history,omitempty"`
}

// NodeView is what matters of a node.
type NodeView struct {
	Name string `json:"name"`
	Zone string `json:"zone,omitempty"`
}

// Port is a service port in one family.
type Port struct {
	Identity
	Policies
	// Lost are frontends at which another Service or the API server is served instead, and why. LostCodes are the reasons, one for
	// each.
	Lost      []string       `json:"lost,omitempty"`
	LostCodes []reason.Code  `json:"lostCodes,omitempty"`
	Endpoints []Endpoint     `json:"endpoints"`
	Pinned    []Pin          `json:"pinned,omitempty"`
	Frontends []FrontendView `json:"frontends"`
	// MoreFrontends is how many frontends are not shown: each can be asked for by its address.
	MoreFrontends int `json:"moreFrontends,omitempty"`
}

// Identity names a service port.
type Identity struct {
	Service  string `json:"service,omitempty"` // namespace/name; empty: the kernel does not tell
	Port     string `json:"port,omitempty"`
	Number   uint16 `json:"number,omitempty"`
	Protocol string `json:"protocol"`
	Family   string `json:"family"`
}

// Policies are what a Service says of its connections.
type Policies struct {
	// InternalPolicy and ExternalPolicy are Cluster or Local.
	InternalPolicy string   `json:"internalTrafficPolicy,omitempty"`
	ExternalPolicy string   `json:"externalTrafficPolicy,omitempty"`
	Scheduler      string   `json:"scheduler,omitempty"`
	Failover       bool     `json:"failover,omitempty"`
	Affinity       uint32   `json:"affinitySeconds,omitempty"`
	SourceRanges   []string `json:"loadBalancerSourceRanges,omitempty"`
	DeniesRanges   bool     `json:"deniesSourceRanges,omitempty"`
	// Table says that a scheduler's table is small for the endpoints, and what that means.
	Table string `json:"table,omitempty"`
}

// Endpoint is an endpoint, and whether it counts.
type Endpoint struct {
	Address string `json:"address"`
	Pod     string `json:"pod,omitempty"`
	Node    string `json:"node,omitempty"`
	Zone    string `json:"zone,omitempty"`
	Here    bool   `json:"onThisNode"`
	// Cluster and Local say that it gets connections under that policy.
	Cluster bool `json:"cluster"`
	Local   bool `json:"local"`
	// Why says why it gets none, or not under both policies; Codes are the reasons.
	Why   string        `json:"why,omitempty"`
	Codes []reason.Code `json:"codes,omitempty"`
	// Share says what it gets where not all get the same, and why. ClusterShare and LocalShare are the parts of all new
	// connections, from 0 to 1.
	Share        string  `json:"share,omitempty"`
	ClusterShare float64 `json:"clusterShare,omitempty"`
	LocalShare   float64 `json:"localShare,omitempty"`
}

// Pin is a client that stays with its endpoint.
type Pin struct {
	Client   string `json:"client"`
	Endpoint string `json:"endpoint"`
	// Seconds is for how long.
	Seconds uint64 `json:"seconds"`
}

// FrontendView is where clients connect to, and what becomes of them.
type FrontendView struct {
	Kind    string `json:"kind"`
	Address string `json:"address"`
	// Problem says why nothing can be said of it.
	Problem string `json:"problem,omitempty"`
	// Clients are those that were asked for, or one of each kind.
	Clients []ClientView `json:"clients"`

	at rules.Frontend
}

// Outcome is what a client sees of its connection.
type Outcome string

// What a client sees.
const (
	Answer    Outcome = "answer"    // of an endpoint
	Refused   Outcome = "refused"   // an error, at once
	Timeout   Outcome = "timeout"   // nothing: the connection is dropped
	Untouched Outcome = "untouched" // whatever listens there: no rule of nftproxy serves the address
)

// ClientView is what becomes of connections of one client.
type ClientView struct {
	From    string  `json:"from"`
	Outcome Outcome `json:"outcome"`
	// Unheard says that the client is told of a refusal, but its protocol takes no notice of it.
	Unheard bool `json:"unheard,omitempty"`
	To      []To `json:"to,omitempty"`
	// MayBeMasqueraded says that endpoints may see the node's address, too: it is not known here where nftproxy takes pods to be.
	MayBeMasqueraded bool     `json:"mayBeMasqueraded,omitempty"`
	Why              []string `json:"why,omitempty"`
	// Codes are those of Why, one for each.
	Codes []reason.Code `json:"codes,omitempty"`
	// Rules are those that do something with the packet, as CHAIN: RULE. Where several endpoints can be chosen, they are
	// those on the way to the first.
	Rules []string `json:"rules,omitempty"`
}

// To is an endpoint that connections go to.
type To struct {
	Address     string `json:"address"`
	Masqueraded bool   `json:"masqueraded"`
}

// Kernel says how what the kernel holds compares.
type Kernel struct {
	// Holds is nil if it could not be looked at, and Problem says why.
	Holds       *bool              `json:"holds,omitempty"`
	Problem     string             `json:"problem,omitempty"`
	Differences []rules.Difference `json:"differences,omitempty"`
}
