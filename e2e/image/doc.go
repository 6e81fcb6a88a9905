// SPDX-License-Identifier: Apache-2.0

// Package image makes container images of one static binary each, without a
// container engine: what `FROM scratch`, `COPY` and `ENTRYPOINT` make.
//
// An image has one manifest for each architecture. Write puts images into one
// OCI archive, a tar file that `ctr images import`, `podman load` and
// `docker load` (25 or newer) take. The same binaries always give the same bytes.
//
// The module is apart from the main one because of go-containerregistry.
package image
