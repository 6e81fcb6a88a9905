module github.com/nftproxy/nftproxy/deploy/site

go 1.26.0

require github.com/yuin/goldmark v1.8.7

require golang.org/x/net v0.50.0
