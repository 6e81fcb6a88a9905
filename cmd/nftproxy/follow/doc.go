// SPDX-License-Identifier: Apache-2.0

// Package follow follows files that others replace, as a ConfigMap's: where the kernel tells of changes,
// and by looking at them from time to time where it does not.
package follow
