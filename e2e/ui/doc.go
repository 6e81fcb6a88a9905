// SPDX-License-Identifier: Apache-2.0

// Package ui tests the page of `nftproxy ui` in a headless Chromium, against a running nftproxy that has traffic: what the page
// says is what the API says. It is a module of its own because of what drives the browser.
package ui
