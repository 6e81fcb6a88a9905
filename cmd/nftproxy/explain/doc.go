// SPDX-License-Identifier: Apache-2.0

// Package explain says in words what becomes of connections to a Service: by the
// service ports and endpoints that a proxier has, the state that it makes of them, and
// package rules/tracer, which carries that state's rules out.
package explain
