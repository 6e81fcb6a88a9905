// SPDX-License-Identifier: Apache-2.0

package cluster

import "github.com/nftproxy/nftproxy/rules"

// Changed is an owner whose Input may have changed.
type Changed struct {
	rules.Owner
	// Gone says that it wants nothing any more.
	Gone bool
	// Tuned says that nothing has changed but the shares of its endpoints, as time goes by.
	Tuned bool
}

// Input is what an owner's objects are built from.
type Input struct {
	Owner rules.Owner
	// Port has only the frontends that the owner gets. Its Port is 0 if the owner wants nothing any more.
	Port rules.ServicePort
	// Endpoints are all of them, as EndpointSlices have them.
	Endpoints []rules.Endpoint
	// Lost are the frontends that the owner must do without.
	Lost []Conflict
}
