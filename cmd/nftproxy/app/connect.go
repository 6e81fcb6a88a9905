// SPDX-License-Identifier: Apache-2.0

package app

import (
	"fmt"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/apiserver"
	"github.com/nftproxy/nftproxy/cmd/nftproxy/follow"
)

// kubeconfigFile is what the most important of the files that a client is made from is called.
const kubeconfigFile = "kubeconfig"

// connect makes the client for the API server, if that is the source. No request is made.
func (o *runOptions) connect() error {
	if o.source.manifests != "" {
		return nil
	}
	var files []apiFile
	if path := o.kubeProxy.ClientConnection.Kubeconfig; path != "" {
		content, _ := follow.ReadSmall(path) // before the client does: what it reads is this or newer
		files = append(files, apiFile{kubeconfigFile, path, content})
	}
	o.source.apiServers = &apiserver.Addresses{} // of its own: those before are in use until this one runs
	config, err := o.clientConfig()
	if err != nil {
		return err
	}
	// The library reads these again, but only every five minutes, and does not say what is wrong with them. Tokens in files it reads
	// every minute.
	for _, f := range []struct {
		what string
		path *string
		data *[]byte
	}{
		{"certificate authority's file", &config.CAFile, &config.CAData},
		{"client certificate's file", &config.CertFile, &config.CertData},
		{"client key's file", &config.KeyFile, &config.KeyData},
	} {
		if *f.path == "" || len(*f.data) > 0 {
			continue
		}
		content, readErr := follow.ReadSmall(*f.path)
		if readErr != nil {
			return fmt.Errorf("read %s: %w", f.what, readErr)
		}
		files = append(files, apiFile{f.what, *f.path, content})
		*f.path, *f.data = "", content
	}
	client, err := newClient(config)
	if err != nil {
		return err
	}
	o.api = apiClient{client, files}
	return nil
}
