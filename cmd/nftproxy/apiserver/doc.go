// SPDX-License-Identifier: Apache-2.0

// Package apiserver is about how the API server is reached: at which addresses, which a Service must not
// take away, and which kubeconfigs may be read.
package apiserver
