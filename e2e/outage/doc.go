// SPDX-License-Identifier: Apache-2.0

// Package outage makes TCP connections at an even rate while something fails, and shows how long each took: as a file for
// programs, as a table and as a picture, with several peers side by side.
package outage
