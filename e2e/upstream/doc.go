// SPDX-License-Identifier: Apache-2.0

// Package upstream says which of Kubernetes' own sig-network e2e specs are run, on which cluster, and which are not, and
// why. It compares that with what e2e.test lists, and makes a page of the junit files of both proxies.
//
// specs.tsv has a spec in each line, of Kubernetes 1.37.2. Specs' texts are of https://github.com/kubernetes/kubernetes
// (Apache-2.0).
package upstream
