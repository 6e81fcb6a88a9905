// SPDX-License-Identifier: Apache-2.0

package image

// Nftproxy describes nftproxy's image, as deploy/Dockerfile makes it. The caller
// adds the binaries.
func Nftproxy(name, version string) Image {
	return Image{Name: name, Entrypoint: "/nftproxy", Cmd: []string{"run"},
		Labels: map[string]string{
			"org.opencontainers.image.title":    "nftproxy",
			"org.opencontainers.image.licenses": "Apache-2.0",
			"org.opencontainers.image.version":  version,
		}}
}
