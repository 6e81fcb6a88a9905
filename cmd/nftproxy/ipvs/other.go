// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package ipvs

import "net/netip"

// nothing is what other systems have.
type nothing struct{}

func newNode(string) node { return nothing{} }

func (nothing) link() ([]netip.Addr, bool, error)  { return nil, false, nil }
func (nothing) deleteLink() error                  { return nil }
func (nothing) servers() ([]Server, error)         { return nil, nil }
func (nothing) deleteServer(Server) error          { return nil }
func (nothing) hasSet(string) (bool, error)        { return false, nil }
func (nothing) inSet(string, Server) (bool, error) { return false, nil }
func (nothing) deleteSet(string) error             { return nil }
