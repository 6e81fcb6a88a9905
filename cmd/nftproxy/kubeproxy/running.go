// SPDX-License-Identifier: Apache-2.0

package kubeproxy

import (
	"io"
	"net/http"
	"time"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/serve"
	"github.com/nftproxy/nftproxy/cmd/nftproxy/trust"
	"github.com/nftproxy/nftproxy/printable"
)

// Running is whether kube-proxy runs on this node, as far as this process sees others.
type Running struct {
	Process string   // its ID; "" if none does
	Notes   []string // what could not be told, or is not taken for kube-proxy
}

// Find looks for it in the /proc below root.
func Find(root string) Running {
	id, notes := trust.Processes{Root: root}.First("kube-proxy", nil)
	return Running{id, notes}
}

// Status is where kube-proxy tells its mode unless it is told otherwise.
const Status = "127.0.0.1:10249"

// modeAt returns the mode of the kube-proxy that answers at an address; "" if none
// does. A container does not see the processes of others, but on the node's network it
// reaches what they serve there.
func modeAt(address string) string {
	client := http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true, MaxResponseHeaderBytes: 4 << 10},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	answer, err := client.Get("http://" + address + "/proxyMode")
	if err != nil {
		return ""
	}
	defer answer.Body.Close()
	const longest = 32 // anybody can serve anything there
	mode, err := io.ReadAll(io.LimitReader(answer.Body, longest))
	if err != nil || answer.StatusCode != http.StatusOK || answer.Header.Get("Server") == serve.ServerName {
		return ""
	}
	return printable.Word(string(mode))
}
