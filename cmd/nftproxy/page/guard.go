// SPDX-License-Identifier: Apache-2.0

package page

import (
	"crypto/subtle"
	"net"
	"net/http"
	"strings"
)

// policy lets the page have what it is made of, and nothing else: no script or style in the text, nothing from elsewhere, no frame
// around it. Trusted Types keep text from becoming markup.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; " +
	"form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

// guard lets in who asks this address under the token, by reading, and not for another page.
func guard(token, address string, h http.Handler) http.Handler {
	hosts := hostsOf(address)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		head := w.Header()
		head.Set("Content-Security-Policy", policy)
		head.Set("X-Content-Type-Options", "nosniff")
		head.Set("X-Frame-Options", "DENY")
		head.Set("Referrer-Policy", "no-referrer")
		head.Set("Cross-Origin-Resource-Policy", "same-origin")
		head.Set("Cross-Origin-Opener-Policy", "same-origin")
		head.Set("Cache-Control", "no-store")
		given, path, slash := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
		switch {
		case !hosts[r.Host]:
			http.Error(w, "this page has another address", http.StatusMisdirectedRequest)
		case subtle.ConstantTimeCompare([]byte(given), []byte(token)) != 1 || !slash:
			http.Error(w, "there is nothing here: the page's whole address is what 'nftproxy ui' prints", http.StatusNotFound)
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			http.Error(w, "this page only reads", http.StatusMethodNotAllowed)
		case !ofThisPage(r):
			http.Error(w, "another page asks", http.StatusForbidden)
		default:
			r2 := r.Clone(r.Context())
			r2.URL.Path, r2.URL.RawPath = "/"+path, ""
			if raw := r.URL.RawPath; raw != "" {
				_, rest, _ := strings.Cut(strings.TrimPrefix(raw, "/"), "/")
				r2.URL.RawPath = "/" + rest
			}
			h.ServeHTTP(w, r2)
		}
	})
}

// hostsOf returns the Hosts by which an address is asked.
func hostsOf(address string) map[string]bool {
	out := map[string]bool{address: true}
	if _, port, err := net.SplitHostPort(address); err == nil {
		out["localhost:"+port] = true
	}
	return out
}

// ofThisPage says whether a browser asks for this page itself: it was typed in, or the page's own script asks. What does not
// come from a browser does not say.
func ofThisPage(r *http.Request) bool {
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "none", "same-origin":
	default:
		return false
	}
	origin := r.Header.Get("Origin")
	return origin == "" || origin == "http://"+r.Host
}
