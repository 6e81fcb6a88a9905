// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"errors"
	"fmt"
	"os"

	"k8s.io/client-go/rest"

	"github.com/nftproxy/nftproxy/cmd/nftproxy/trust"
	"github.com/nftproxy/nftproxy/proxier/source/manifests"
)

// MayInherit says what of another process's kubeconfig must not be used: a program that
// would be run, and files that others can change.
func MayInherit(config *rest.Config) error {
	if config.ExecProvider != nil || config.AuthProvider != nil {
		return errors.New("it names a credential plugin, which runs only for those who ask for it")
	}
	var errs []error
	for _, file := range []string{config.CAFile, config.CertFile, config.KeyFile, config.BearerTokenFile} {
		if file != "" {
			errs = append(errs, trust.File(file))
		}
	}
	return errors.Join(errs...)
}

// CheckKubeconfigs refuses files whose YAML stands for much more than they say. What else is wrong with them
// their reader says. A pipe, as a shell makes one of <(command), can be read but once.
func CheckKubeconfigs(files ...string) error {
	for _, file := range files {
		if info, err := os.Stat(file); err != nil || !info.Mode().IsRegular() {
			continue
		}
		if data, err := os.ReadFile(file); err == nil {
			if err := manifests.CheckExpansion(data); err != nil {
				return fmt.Errorf("read kubeconfig %s: %w", file, err)
			}
		}
	}
	return nil
}
