module github.com/nftproxy/nftproxy/e2e/bench

go 1.26.6
