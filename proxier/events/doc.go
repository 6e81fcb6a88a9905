// SPDX-License-Identifier: Apache-2.0

// Package events tells the owners of objects, through Kubernetes events, what is wrong with them.
//
// A Recorder sends warnings (events.k8s.io/v1) as kube-proxy does, with 'nftproxy' as the reporting controller and the node's name as
// the reporting instance. A warning never waits for the API server: it is queued, tried again for two minutes while the server cannot
// be reached, and dropped after that.
//
// Events are told apart by object, type and reason, not by message: the same again within six minutes counts up the event that is
// there (its series), whose note stays the first one. No more than burst at once, and then perSecond, are let through. That is what
// client-go's tools/events does, which brings the types of all APIs of Kubernetes with it, a quarter of the program.
//
// Where there is no API server a Func stands in for the Recorder.
package events
