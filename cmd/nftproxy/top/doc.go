// SPDX-License-Identifier: Apache-2.0

// Package top counts connections by Service and endpoint, and shows them: Counts takes them in and gives a Table for each
// interval, which is text, JSON, or the Screen of a terminal.
//
// Counts, Table and Screen are pure: flows, names and keys come in, text goes out. Terminal is the only part that touches one.
package top
