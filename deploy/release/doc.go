// SPDX-License-Identifier: Apache-2.0

// Release makes a release of nftproxy of binaries that are built already, and publishes it:
//
//	release pack -version v0.1.0 -commit HASH -time SECONDS -root CHECKOUT -binaries FOLDER -out FOLDER
//	release push -from FOLDER
//
// `make release` builds the binaries and calls it. The folder of binaries has nftproxy at OS_ARCH/nftproxy, as in
// linux_amd64/nftproxy. The same checkout gives the same bytes at any time, on any machine and below any folder, as long as the
// version of Go is the same: files in archives are sorted, belong to root, and have the commit's time.
//
// Licences are those of the packages that are linked, as `go list` has them; one that cannot be told from its text is an error.
//
// The module is apart from the main one because of what it requires.
package main
