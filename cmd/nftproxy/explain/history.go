// SPDX-License-Identifier: Apache-2.0

package explain

import "time"

// History is what the last transactions tell of a Service: since when things are as they are. All times are those of the node's clock.
type History struct {
	// At is when this was answered.
	At time.Time `json:"at"`
	// From is when it begins: what was done until then is not known by the names of endpoints.
	From time.Time `json:"from"`
	// Written is when the Service was last written since then; zero: it was not.
	Written time.Time `json:"written,omitzero"`
	// Came are endpoints, each with the last time that it began to get connections, and Went those that got none since then. Some
	// are left out where many came or went at once: Unnamed is when that was last.
	Came    []Turn    `json:"came,omitempty"`
	Went    []Turn    `json:"went,omitempty"`
	Unnamed time.Time `json:"unnamed,omitzero"`
}

// Turn is an endpoint of a service port that came or went.
type Turn struct {
	Port    string    `json:"port,omitempty"` // its name
	Family  string    `json:"family"`
	Address string    `json:"address"`
	At      time.Time `json:"at"`
}
