// SPDX-License-Identifier: Apache-2.0

// Package page serves a page to look at running nftproxies, to one user on this machine. The page is in assets: plain HTML, CSS
// and modules of JavaScript, without a build. It asks the API of package ask, which this package hands on: it knows neither
// where an nftproxy runs nor how it is reached.
//
// Whoever may open the page sees all that the API tells. Its address therefore has a random token, without which nothing is
// answered; requests of other pages in the same browser are refused; and so is every Host but the address that is listened at,
// which keeps out names that others have had lead here. It changes nothing.
package page
