// SPDX-License-Identifier: Apache-2.0

package app

import "github.com/nftproxy/nftproxy/rules"

// ipvsScheduler is the scheduler that is nearest to one of IPVS', and how it differs.
type ipvsScheduler struct {
	nearest rules.Scheduler
	differs string
}

// ipvsSchedulers has a row for each scheduler that the kernel's IPVS has.
var ipvsSchedulers = map[string]ipvsScheduler{
	"rr":    {rules.RoundRobin, ""},
	"wrr":   {rules.RoundRobin, ""},
	"lc":    {rules.LeastConnections, ""},
	"wlc":   {rules.LeastConnections, ""},
	"sed":   {rules.LeastConnections, "weights divide the open connections; the one to come is not counted"},
	"nq":    {rules.LeastConnections, "an idle endpoint is preferred, not chosen always"},
	"lblc":  {rules.LeastConnections, "a destination is always the Service's own address: there is no locality"},
	"lblcr": {rules.LeastConnections, "a destination is always the Service's own address: there is no locality"},
	"sh":    {rules.ClientHash, ""},
	"dh":    {rules.ClientHash, "the client's address is hashed: the destination is always the Service's own"},
	"mh":    {rules.Maglev, "the client's port is hashed, too"},
	"twos":  {rules.LeastConnections, "all endpoints are compared, not two"},
	"fo":    {rules.RoundRobin, "all endpoints get connections, by their weights: for failover give the others the weight 0"},
	"ovf":   {rules.RoundRobin, "all endpoints get connections, by their weights"},
}
