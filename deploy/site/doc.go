// SPDX-License-Identifier: Apache-2.0

// Site makes a static site of the repository's Markdown: a page for each file of docs and for those beside the README, as GitHub renders
// them, with one style sheet and no script.
//
//	go run . -root ../.. -out ../../dist/site
//
// goldmark reads the Markdown, with GitHub's extensions. A whole generator such as Hugo would bring a hundred modules, a theme from
// elsewhere and front matter that GitHub shows; what it does besides is of no use here.
//
// Links to files that are no pages lead to the repository at GitHub; pictures are copied. Who adds a page of docs adds it to the menu, or a
// test fails.
package main
