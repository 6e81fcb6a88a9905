// SPDX-License-Identifier: Apache-2.0

// Package events tells the owners of objects, through Kubernetes events, what is wrong with them.
//
// A Recorder sends warnings (events.k8s.io/v1) by client-go's tools/events, as kube-proxy does, with 'nftproxy' as the reporting
// controller and the node's name as the reporting instance. A warning never waits for the API server: it is queued, repeated by
// the library for two minutes while the server cannot be reached, and dropped after that.
//
// The library tells events apart by object and reason, not by message: the same reason again within six minutes counts up the event
// that is there, whose note stays the first one. It knows no limit; here no more than burst at once, and then perSecond, are let through.
//
// Where there is no API server a Func stands in for the Recorder.
package events
