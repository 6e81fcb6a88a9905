// SPDX-License-Identifier: Apache-2.0

package config

import (
	"bytes"
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// What the document says that it is which has nftproxy's own part of a configuration file.
const (
	OwnVersion = ownGroup + "v1alpha1"
	OwnKind    = "NftproxyConfiguration"
	ownGroup   = "nftproxy.io/"
)

// Own is what a configuration file may say that kube-proxy has no field for: a document of its own before or after kube-proxy's, which
// reads the first one alone. Each field has the meaning of the flag of that name; nil: the file does not say it.
type Own struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`

	Failover          *bool            `json:"failover,omitempty"`
	FailoverThreshold *int             `json:"failoverThreshold,omitempty"`
	FailoverShare     *int             `json:"failoverShare,omitempty"`
	Scheduler         *string          `json:"scheduler,omitempty"`
	MaglevTableSize   *uint16          `json:"maglevTableSize,omitempty"`
	MaglevSeed        *uint32          `json:"maglevSeed,omitempty"`
	MaxSlots          *int             `json:"maxSlots,omitempty"`
	CountPeriod       *metav1.Duration `json:"countPeriod,omitempty"`
}

// Empty says that no field is given.
func (o Own) Empty() bool {
	o.APIVersion, o.Kind = "", ""
	return o == Own{}
}

// Marshal returns the document.
func (o Own) Marshal() ([]byte, error) {
	o.APIVersion, o.Kind = OwnVersion, OwnKind
	return yaml.Marshal(o)
}

// splitOwn returns nftproxy's own part of a configuration file, and the rest, which is kube-proxy's. Unknown and duplicate fields are
// warnings, as in kube-proxy's.
func splitOwn(data []byte) (own Own, rest []byte, warnings []string, err error) {
	found := false
	var others [][]byte
	for _, text := range documents(data) {
		var is metav1.TypeMeta
		if yaml.Unmarshal(text, &is) != nil || !strings.HasPrefix(is.APIVersion, ownGroup) {
			others = append(others, text)
			continue
		}
		if is.APIVersion != OwnVersion || is.Kind != OwnKind {
			return Own{}, nil, nil, fmt.Errorf("%q of %q is not known here: %s of %s is", is.Kind, is.APIVersion, OwnKind, OwnVersion)
		}
		if found {
			return Own{}, nil, nil, fmt.Errorf("%s is there twice: make one document of both", OwnKind)
		}
		found = true
		if strict := yaml.UnmarshalStrict(text, &own); strict != nil {
			own = Own{}
			if err := yaml.Unmarshal(text, &own); err != nil {
				return Own{}, nil, nil, fmt.Errorf("%s: %w", OwnKind, err)
			}
			warnings = append(warnings, fmt.Sprintf("%s: fields that are left out: %v", OwnKind, strict))
		}
	}
	if !found {
		return Own{}, data, nil, nil
	}
	return own, bytes.Join(others, []byte("---\n")), warnings, nil
}

// documents returns the YAML documents of a file.
func documents(data []byte) [][]byte {
	out := [][]byte{nil}
	for line := range bytes.Lines(data) {
		if after, ok := bytes.CutPrefix(line, []byte("---")); ok && (len(after) == 0 || strings.ContainsRune(" \t\r\n", rune(after[0]))) {
			out, line = append(out, nil), after
		}
		out[len(out)-1] = append(out[len(out)-1], line...)
	}
	return out
}
