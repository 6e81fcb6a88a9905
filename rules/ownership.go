// SPDX-License-Identifier: Apache-2.0

package rules

import "slices"

// ownership says what of a table is a Service's, or one of its ports': the chains and sets that bear its name, elements
// that lead to its chains or that its chains choose among, and elements that it should have, which bear no name.
type ownership struct {
	named      func(ServicePortName) bool
	identities []identity             // of its chains with endpoints
	keys       map[SetID]map[Key]bool // of elements that it should have
}

// chain says whether the chain of a name is the owner's.
func (o *ownership) chain(name string) bool {
	of := ParseChainID(name).Of
	return of != ServicePortName{} && o.named(of)
}

// set says whether all of a set is the owner's.
func (o *ownership) set(id SetID) bool {
	of, _ := id.ServicePort()
	return of != ServicePortName{} && o.named(of)
}

// element says whether an element is the owner's.
func (o *ownership) element(id SetID, k Key, v Value) bool {
	if o.keys[id][k] || v.Goto != "" && o.chain(v.Goto) {
		return true
	}
	return slices.ContainsFunc(o.identities, func(i identity) bool { return i.has(id, k) })
}

// chooses notes a chain that chooses among endpoints.
func (o *ownership) chooses(name string) { o.identities = append(o.identities, identify(name)) }

// expect notes elements that the owner should have.
func (o *ownership) expect(id SetID, keys ...Key) {
	if o.keys == nil {
		o.keys = map[SetID]map[Key]bool{}
	}
	if o.keys[id] == nil {
		o.keys[id] = map[Key]bool{}
	}
	for _, k := range keys {
		o.keys[id][k] = true
	}
}

// expectFrontends notes frontends that the owner should serve, wherever they are.
func (o *ownership) expectFrontends(list []Frontend) {
	for _, f := range list {
		for _, id := range SetsOf(f) {
			o.expect(id, f.Key())
		}
	}
}
