// SPDX-License-Identifier: Apache-2.0

// Package report is what a benchmark measured, and pages, plots and comparisons of it.
package report
