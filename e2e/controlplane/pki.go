// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"
)

// Files of keys and certificates, in the working directory of the servers.
const (
	caFile         = "ca.crt"
	serverCertFile = "apiserver.crt"
	serverKeyFile  = "apiserver.key"
	tokenKeyFile   = "serviceaccount.key"
)

// authority signs the certificates of the API server and of its clients.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// credentials are a certificate and its key, in PEM.
type credentials struct {
	cert, key []byte
}

func newAuthority() (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generate the authority's key: %w", err)
	}
	template := newTemplate(pkix.Name{CommonName: "controlplane-ca"})
	template.IsCA = true
	template.BasicConstraintsValid = true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("sign the authority's certificate: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("parse the authority's certificate: %w", err)
	}
	return &authority{cert: cert, key: key}, nil
}

// newTemplate is valid from an hour ago, for clocks that differ a little.
func newTemplate(subject pkix.Name) *x509.Certificate {
	now := time.Now()
	return &x509.Certificate{
		Subject:   subject,
		NotBefore: now.Add(-time.Hour),
		NotAfter:  now.Add(24 * time.Hour),
		KeyUsage:  x509.KeyUsageDigitalSignature,
	}
}

func (a *authority) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
}

// server signs a certificate for the API server at the address, at loopback,
// and at the ClusterIP of the Service 'kubernetes'.
func (a *authority) server(address netip.Addr) (credentials, error) {
	template := newTemplate(pkix.Name{CommonName: "kube-apiserver"})
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	template.DNSNames = []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"}
	template.IPAddresses = []net.IP{address.AsSlice(), net.IPv4(127, 0, 0, 1), net.IPv6loopback}
	for _, text := range []string{ServiceRange4, ServiceRange6} {
		services, err := netip.ParsePrefix(text)
		if err != nil {
			return credentials{}, fmt.Errorf("parse service range: %w", err)
		}
		template.IPAddresses = append(template.IPAddresses, services.Addr().Next().AsSlice())
	}
	return a.sign(template)
}

// client signs a certificate that authenticates as the user and its groups.
func (a *authority) client(user string, groups ...string) (credentials, error) {
	template := newTemplate(pkix.Name{CommonName: user, Organization: groups})
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	return a.sign(template)
}

func (a *authority) sign(template *x509.Certificate) (credentials, error) {
	name := template.Subject.CommonName
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return credentials{}, fmt.Errorf("generate the key of %s: %w", name, err)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		return credentials{}, fmt.Errorf("sign the certificate of %s: %w", name, err)
	}
	keyPEM, err := encodeKey(key)
	if err != nil {
		return credentials{}, err
	}
	return credentials{
		cert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		key:  keyPEM,
	}, nil
}

func encodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), nil
}

// writeServerFiles writes what the API server reads: the authority, its own
// certificate, and the key that signs the tokens of service accounts.
func writeServerFiles(dir string, a *authority, address netip.Addr) error {
	server, err := a.server(address)
	if err != nil {
		return err
	}
	tokenKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("generate the key for service account tokens: %w", err)
	}
	tokenPEM, err := encodeKey(tokenKey)
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(filepath.Join(dir, caFile), a.pem(), 0o600),
		os.WriteFile(filepath.Join(dir, serverCertFile), server.cert, 0o600),
		os.WriteFile(filepath.Join(dir, serverKeyFile), server.key, 0o600),
		os.WriteFile(filepath.Join(dir, tokenKeyFile), tokenPEM, 0o600),
	)
}
