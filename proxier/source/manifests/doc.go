// SPDX-License-Identifier: Apache-2.0

// Package manifests is a source of Services, EndpointSlices, Nodes and ServiceCIDRs: the files of a directory.
//
// Files named *.yaml, *.yml and *.json are read; hidden ones and subdirectories are not. A file holds any number of documents of
// kind Service (v1), EndpointSlice (discovery.k8s.io/v1), Node (v1), ServiceCIDR (networking.k8s.io/v1), or a List of them.
// Decoding is strict. What an API server would fill in or refuse is filled in or refused here, as far as proxying depends on it.
// Services and EndpointSlices that an API server would not have sent to a source.Cluster are passed over.
//
// A file is applied whole or not at all: one bad document makes the whole file bad, each fault is reported as a *FileError, and the
// last good state of that file stays (a file that never was good contributes nothing). A file without a single byte counts as bad, too,
// because that is how a file looks while a shell redirection into it runs; a file with only a comment is good and holds nothing.
//
// A file is at most 64 MiB. What its aliases (YAML's * and <<) stand for counts as if it were written out: 1 MiB and ten times the
// file's size at most. At most 100 faults of a file are told.
//
// An object that is defined in two files belongs to the first of them by file name; the other one is reported and takes over when the
// first goes away.
//
// Changes are found through file system notifications of the directory itself. The target of a symbolic link that lies elsewhere
// is read again only when something changes in the directory, as it does when a ConfigMap volume swaps its ..data link.
//
// The way of a file: directory.go and batch.go say that it changed, reader.go reads it, parse.go makes objects of its documents
// (yaml.go, json.go, document.go), catalog.go decides which file an object is taken from, and source.go tells the sink.
package manifests
