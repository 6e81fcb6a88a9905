// SPDX-License-Identifier: Apache-2.0

// Package config is kube-proxy's configuration, kubeproxy.config.k8s.io/v1alpha1: its file, its
// flags, its defaults and its rules of what is valid, by kube-proxy's names. It knows nothing of
// Services, the kernel and what nftproxy has besides, but for the document of a file in which that may stand: Own.
//
// Parse reads a file and puts what counts into the section for nftables, whatever the mode is.
// Validate says what is wrong. Options are the flags, alone or with a file in their place.
package config
